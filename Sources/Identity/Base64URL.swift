import FoundationEssentials

/// base64url without padding (RFC 7515, section 2), with one spelling for each value.
enum Base64URL {
  static func encode(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    for character in Data(bytes).base64EncodedString() {
      switch character {
      case "+": text.append("-")
      case "/": text.append("_")
      case "=": return text
      default: text.append(character)
      }
    }
    return text
  }

  /// Nil for padding, other characters, and bits behind the end: a token that could be spelt twice is two tokens to whoever remembers
  /// which he has seen.
  static func decode(_ text: some StringProtocol) -> [UInt8]? {
    var standard = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "-"): standard.append("+")
      case UInt8(ascii: "_"): standard.append("/")
      case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="): return nil
      default: standard.unicodeScalars.append(Unicode.Scalar(byte))
      }
    }
    standard += String(repeating: "=", count: (4 - standard.utf8.count % 4) % 4)
    guard let data = Data(base64Encoded: standard), encode(data) == text else { return nil }
    return Array(data)
  }
}
