/// The parts of a secret `user:password`: of a Basic login (RFC 7617), and of a PostgreSQL role.
public struct UserPassword: Sendable, Equatable {
  public let user: String
  public let password: Secret

  /// - Throws: `CredentialError` for a secret without a colon or with control characters, or whose password is too short.
  public init(_ secret: Secret) throws(CredentialError) {
    guard let text = secret.text, let colon = text.firstIndex(of: ":"), colon > text.startIndex else {
      throw CredentialError(.unusable, "the secret is not user:password")
    }
    guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else {
      throw CredentialError(.unusable, "the secret holds a control character")
    }
    user = String(text[..<colon])
    password = try Secret(text[text.index(after: colon)...].utf8, version: secret.version)
  }
}
