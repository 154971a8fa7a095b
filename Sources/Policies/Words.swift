/// What each word of a list in a policy must be.
enum Words {
  case oneOf([String])
  /// Names of modules, which become part of a program.
  case module
  /// Of a token: a URL or a word, as `Identity` puts them into `aud`.
  case audience
  /// The names that grants have for credentials.
  case credential

  /// Bytes of a module's name.
  private static let longestModule = 128

  /// What is wrong with a word, to be put behind it; nil for nothing.
  func objection(to word: String) -> String? {
    switch self {
    case .oneOf(let allowed):
      allowed.contains(word)
        ? nil : "is unknown or cannot be in a policy; there are \(allowed.joined(separator: ", "))"
    case .module:
      word.utf8.count <= Self.longestModule
        && word.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/) != nil
        ? nil : "is no name of a module"
    case .audience:
      (1...255).contains(word.utf8.count) && word.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        ? nil : "is no audience: 1 to 255 printing ASCII characters without spaces"
    case .credential:
      word.wholeMatch(of: /[0-9a-z_.\/-]{1,63}/) != nil
        ? nil : "is no name of up to 63 lower-case letters, digits and - _ . /"
    }
  }
}
