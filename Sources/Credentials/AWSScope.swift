import Jobs

/// What a signature of AWS is good for: one region's one service, on one day.
public struct AWSScope: Sendable, Equatable {
  /// Such as `eu-central-1`.
  public let region: String
  /// As AWS names it in signatures, such as `s3` or `execute-api`.
  public let service: String
  /// Whether the source gives a third part, the token of a temporary session. Only where the definition says so, because
  /// a token that is there unexpectedly, or missing unexpectedly, is another account's or an older login's.
  public let hasSessionToken: Bool

  public init(region: String, service: String, hasSessionToken: Bool = false) {
    self.region = region
    self.service = service
    self.hasSessionToken = hasSessionToken
  }

  init(_ json: JSONValue, at path: String) throws(CredentialError) {
    let object = try DefinitionObject(json, at: path, known: ["region", "service", "session_token"])
    for name in ["region", "service"] {
      // It stands in a header between slashes and commas.
      guard try object.text(name).utf8.allSatisfy({ (97...122).contains($0) || (48...57).contains($0) || $0 == 45 })
      else { throw object.problem(name, "write a-z, 0-9 and -") }
    }
    self.init(
      region: try object.text("region"), service: try object.text("service"),
      hasSessionToken: try object.flag("session_token"))
  }

  /// S3 takes a path as it is; every other service normalises it and has it encoded once more.
  var isS3: Bool { service == "s3" }
}

/// The parts of a secret for AWS: `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, and `:SESSION_TOKEN` where the scope has one. None of
/// the three contains a colon.
struct AWSKeys {
  let identifier: String
  let key: Secret
  let sessionToken: Secret?

  init(_ secret: Secret, for scope: AWSScope) throws(CredentialError) {
    let parts = secret.text?.split(separator: ":", omittingEmptySubsequences: false) ?? []
    guard parts.count == (scope.hasSessionToken ? 3 : 2) else {
      let form = "ACCESS_KEY_ID:SECRET_ACCESS_KEY" + (scope.hasSessionToken ? ":SESSION_TOKEN" : "")
      let fix = parts.count == 3 ? "; for a third part say \"session_token\": true" : ""
      throw CredentialError(.unusable, "the secret is not \(form)\(fix)")
    }
    guard !parts[0].isEmpty, parts[0].utf8.allSatisfy(PercentEncoding.isUnreserved) else {
      throw CredentialError(
        .unusable, "the access key's identifier is not one of letters, digits, '-', '.', '_' and '~'")
    }
    guard parts.dropFirst().allSatisfy({ $0.utf8.allSatisfy { (0x21...0x7e).contains($0) } }) else {
      throw CredentialError(.unusable, "a part of the secret holds a space, a control character or a byte beyond ASCII")
    }
    identifier = String(parts[0])
    key = try Secret(parts[1].utf8, version: secret.version)
    sessionToken = parts.count == 3 ? try Secret(parts[2].utf8, version: secret.version) : nil
  }
}
