import FoundationEssentials
import Jobs

/// What Vault said, read without saying any of it again: an answer holds secrets, and an error's text may repeat a token.
enum VaultAnswer {
  /// A version of one secret is small; what is larger is another thing.
  static let mostBytes = 1 << 20

  /// - Parameters:
  ///   - status: of the response. The codes are those of Vault's "HTTP API" page.
  ///   - body: read for the status 200, and for 404 to tell a deleted version from no secret.
  static func secret(status: Int, body: [UInt8], address: VaultAddress) throws(CredentialError) -> Secret {
    switch status {
    case 200: return try secret(body, address)
    case 400:
      throw CredentialError(.refused, "Vault took the request for malformed (fix: check mount, path and namespace)")
    case 403:
      throw CredentialError(
        .refused,
        "Vault refuses the token in \(address.tokenFile) (fix: renew it, or give it a policy that may read this path)")
    case 404:
      let isDeleted = metadata(body) != nil
      throw CredentialError(
        .refused,
        isDeleted
          ? "the latest version is deleted or destroyed (fix: write a new one)"
          : "Vault has nothing there (fix: check mount, path and namespace)")
    case 429, 472, 473: throw CredentialError(.unavailable, "Vault is busy or a standby (status \(status))")
    case 503: throw CredentialError(.unavailable, "Vault is sealed or down for maintenance (fix: unseal it)")
    case 300..<400:
      throw CredentialError(.refused, "Vault redirects, which is not followed (fix: name the active node)")
    default: throw CredentialError(.unavailable, "Vault answered with status \(status)")
    }
  }

  private static func secret(_ body: [UInt8], _ address: VaultAddress) throws(CredentialError) -> Secret {
    guard let metadata = metadata(body), let version = metadata["version"]?.integer else {
      throw CredentialError(
        .unusable, "Vault's answer is not that of a key-value engine of version 2 (fix: check mount)")
    }
    // A time of deletion may lie ahead; a version that is deleted comes with the status 404.
    guard metadata["destroyed"] != .bool(true) else {
      throw CredentialError(.refused, "version \(version) is destroyed (fix: write a new one)")
    }
    guard let value = document(body)?["data"]?["data"]?[address.field] else {
      throw CredentialError(.unusable, "version \(version) has no field '\(address.field)'")
    }
    guard let text = value.string else {
      throw CredentialError(.unusable, "the field '\(address.field)' of version \(version) is no text")
    }
    return try Secret(text, version: "version \(version)")
  }

  private static func metadata(_ body: [UInt8]) -> JSONValue? { document(body)?["data"]?["metadata"] }

  private static func document(_ body: [UInt8]) -> JSONValue? {
    try? JSONDecoder().decode(JSONValue.self, from: Data(body))
  }
}
