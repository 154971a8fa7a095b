import Jobs

/// How a secret goes into a request, as the configuration says it.
public enum InjectionForm: Sendable, Equatable {
  /// `Authorization: Bearer …` (RFC 6750).
  case bearer
  /// `Authorization: Basic …` (RFC 7617); the secret is `user:password`.
  case basic
  /// A field of the configuration's choice.
  case header(String)
  /// A parameter of the target. Targets are logged by most servers and proxies on the way.
  case query(String)
  case awsSignature(AWSScope)

  init(_ json: JSONValue, at path: String) throws(CredentialError) {
    let object = try DefinitionObject(
      json, at: path, known: ["bearer", "basic", "header", "query", "aws_sigv4", "allow_query"])
    let mayQuery = try object.flag("allow_query")
    let forms = object.names.filter { $0 != "allow_query" }
    guard let form = forms.first, forms.count == 1 else {
      let found = forms.isEmpty ? "none" : forms.joined(separator: " and ")
      throw CredentialError(.definition, "\(path): name exactly one form; there is \(found)")
    }
    guard form == "query" || object.value("allow_query") == nil else {
      throw object.problem("allow_query", "belongs to the form query")
    }
    switch form {
    case "bearer", "basic":
      guard try object.flag(form) else { throw object.problem(form, "write true, or another form") }
      self = form == "bearer" ? .bearer : .basic
    case "header": self = .header(try Self.header(try object.required(form), at: "\(path).header"))
    case "query":
      guard mayQuery else {
        throw object.problem(
          form,
          "a target is written into logs on the way, and a secret in it too (fix: use header, or say \"allow_query\": true)"
        )
      }
      self = .query(try Self.parameter(try object.required(form), at: "\(path).query"))
    default: self = .awsSignature(try AWSScope(try object.required(form), at: "\(path).aws_sigv4"))
    }
  }

  private static func header(_ json: JSONValue, at path: String) throws(CredentialError) -> String {
    let object = try DefinitionObject(json, at: path, known: ["name"])
    let name = try object.text("name")
    guard name.utf8.allSatisfy(isTokenByte) else { throw object.problem("name", "'\(name)' is no name of a field") }
    guard !Self.reserved.contains(name.lowercased()) else {
      throw object.problem("name", "'\(name)' says how a request is framed or forwarded, and is the broker's alone")
    }
    return name
  }

  private static func parameter(_ json: JSONValue, at path: String) throws(CredentialError) -> String {
    let object = try DefinitionObject(json, at: path, known: ["name"])
    let name = try object.text("name")
    guard name.utf8.allSatisfy(PercentEncoding.isUnreserved) else {
      throw object.problem("name", "write letters, digits, '-', '.', '_' and '~'")
    }
    return name
  }

  /// Hop-by-hop fields (RFC 9110, 7.6.1, and the older ones of RFC 2616, 13.5.1), those that frame a message or say whom
  /// it is for, and HTTP/2's pseudo-fields, which no token is anyway.
  static let reserved: Set<String> = [
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-authentication-info",
    "proxy-connection", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "content-length", "host", "expect",
    "http2-settings", "via", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
  ]

  /// RFC 9110, 5.6.2.
  private static func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 48...57, 65...90, 97...122: true
    default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
    }
  }
}
