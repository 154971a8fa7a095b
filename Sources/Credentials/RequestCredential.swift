/// A secret in the form in which a request carries it, for the one that sends the request.
public enum RequestCredential: Sendable {
  /// A field to set; every field of this name that the request brought goes first.
  case field(name: String, value: Secret)
  /// A parameter to add to the query, both parts percent-encoded; every parameter of this name goes first.
  case query(name: String, value: Secret)
  /// To be asked for the fields of each request.
  case signature(AWSSigner)

  /// - Throws: `CredentialError` where the secret cannot stand there: one of the form `basic` without a colon, or one
  ///   with a line break for a field.
  public init(_ secret: Secret, as form: InjectionForm) throws(CredentialError) {
    switch form {
    case .bearer: self = .field(name: "Authorization", value: try Self.fieldValue("Bearer ", secret))
    case .basic:
      _ = try UserPassword(secret)
      let encoded = secret.withBytes { Base64.encode(Array($0)) }
      self = .field(name: "Authorization", value: try Secret(Array("Basic ".utf8) + encoded, version: secret.version))
    case .header(let name): self = .field(name: name, value: try Self.fieldValue("", secret))
    case .query(let name):
      let encoded = secret.withBytes { PercentEncoding.encode($0) }
      self = .query(name: name, value: try Secret(encoded, version: secret.version))
    case .awsSignature(let scope): self = .signature(try AWSSigner(secret, for: scope))
    }
  }

  /// What must not come out of a secret of this form: itself, and the parts of it that are secrets alone.
  public static func confidentialParts(of secret: Secret, as form: InjectionForm?) throws(CredentialError) -> [Secret] {
    switch form {
    case .bearer, .header, .query: return [secret]
    case .basic: return [secret, try UserPassword(secret).password]
    case .awsSignature(let scope):
      let keys = try AWSKeys(secret, for: scope)
      return [secret, keys.key] + (keys.sessionToken.map { [$0] } ?? [])
    case nil: return [secret, try UserPassword(secret).password]
    }
  }

  /// Visible ASCII, and spaces inside: a byte beyond it is read differently by servers (RFC 9110, 5.5).
  private static func fieldValue(_ scheme: String, _ secret: Secret) throws(CredentialError) -> Secret {
    guard let text = secret.text, text.utf8.allSatisfy({ (0x20...0x7e).contains($0) }), !text.hasPrefix(" "),
      !text.hasSuffix(" ")
    else {
      throw CredentialError(
        .unusable,
        "the secret holds a control character, a space at an end or a byte beyond ASCII, which no field carries")
    }
    return try Secret(scheme + text, version: secret.version)
  }
}
