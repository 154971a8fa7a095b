import FoundationEssentials
import Jobs

/// What relying parties fetch: the issuer's metadata and its key set, as bytes that may as well lie on a file server.
public struct PublishedDocuments: Sendable {
  /// Where they lie beneath the issuer's URL (OpenID Connect Discovery 1.0, section 4).
  public static let configurationPath = ".well-known/openid-configuration"
  public static let keySetPath = ".well-known/jwks.json"
  public static let introspectionPath = "introspect"

  public let configuration: [UInt8]
  public let keySet: [UInt8]

  /// - Parameter hasIntrospection: whether the introspection endpoint is served beneath the same URL.
  public init(url: IssuerURL, ring: KeyRing, at now: Date, hasIntrospection: Bool) throws {
    let published = ring.published(at: now)
    func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }
    // What a relying party of workload tokens reads. There is nobody to log in, so the endpoints of a login, which the specification
    // requires of those who have one, are left out, as issuers for workloads do.
    var members: [String: JSONValue] = [
      "issuer": .string(url.description),
      "jwks_uri": .string("\(url)/\(Self.keySetPath)"),
      "response_types_supported": strings(["id_token"]),
      "subject_types_supported": strings(["public"]),
      "id_token_signing_alg_values_supported": strings(Set(published.map(\.algorithm.rawValue)).sorted()),
      "claims_supported": strings(["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "scope", "act", "cordon"]),
    ]
    if hasIntrospection {
      // RFC 8414, section 2.
      members["introspection_endpoint"] = .string("\(url)/\(Self.introspectionPath)")
      members["introspection_endpoint_auth_methods_supported"] = strings(["Bearer"])
    }
    configuration = try Self.encode(.object(members))
    keySet = try Self.encode(
      .object([
        "keys": .array(
          published.map { entry in
            var members = entry.jwk.members
            members["kid"] = entry.kid
            members["alg"] = entry.algorithm.rawValue
            members["use"] = "sig"
            return .object(members.mapValues { .string($0) })
          })
      ]))
  }

  /// Writes both beneath a directory, the key set first: the configuration must not name what is not there.
  public func write(to directory: String) throws {
    let place = URL(fileURLWithPath: directory, isDirectory: true)
    do {
      try FileManager.default.createDirectory(
        at: place.appending(path: ".well-known"), withIntermediateDirectories: true)
      try Data(keySet).write(to: place.appending(path: Self.keySetPath), options: .atomic)
      try Data(configuration).write(to: place.appending(path: Self.configurationPath), options: .atomic)
    } catch {
      throw FileProblem(
        "\(directory): cannot be written: \(error)", fix: "name a directory that this user may write with --out")
    }
  }

  private static func encode(_ value: JSONValue) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(value)) + [10]
  }
}
