/// A password that nobody has to remember: 32 random bytes in base64url. What a server is told of it is its verifier.
public struct LoginPassword: Sendable {
  public let text: String

  public init() {
    var random = SystemRandomNumberGenerator()
    let bytes = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    text = String(decoding: Base64.encode(bytes, urlSafe: true, padded: false), as: UTF8.self)
  }

  /// Nil for a text that is none: 43 characters of the alphabet.
  public init?(_ text: some StringProtocol) {
    guard text.utf8.count == 43, text.utf8.allSatisfy(Self.isDigit) else { return nil }
    self.text = String(text)
  }

  /// Another one each time, since its salt is.
  public func verifier() -> String {
    var random = SystemRandomNumberGenerator()
    return SCRAMVerifier.text(
      password: Array(text.utf8), salt: (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &random) })
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case 48...57, 65...90, 97...122, 45, 95: true
    default: false
    }
  }
}
