/// File names are bytes; a manifest is text. This is the one spelling in which a name is shown.
///
/// Valid UTF-8 stands for itself, except control characters (C0, DEL, C1), the characters that reorder or
/// hide text on a terminal (bidirectional marks, line and paragraph separators, the byte order mark) and the
/// backslash; those, and every byte that is no UTF-8, become `\xNN` for each byte. The map is injective, so two
/// files never share a line of the manifest, and a published file is found again from its line.
enum EscapedName {
  static func show(_ bytes: some Sequence<UInt8>) -> String {
    var rest = Array(bytes)[...]
    var text = ""
    while !rest.isEmpty {
      let leading = leadingScalar(rest)
      let length = leading?.length ?? 1
      if let leading, isPlain(leading.scalar) {
        text.unicodeScalars.append(leading.scalar)
      } else {
        for byte in rest.prefix(length) { text += "\\x" + hexadecimal(byte) }
      }
      rest = rest.dropFirst(length)
    }
    return text
  }

  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x00...0x1F, 0x5C, 0x7F...0x9F: false
    case 0x061C, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xE0000...0xE007F: false
    default: true
    }
  }

  /// The first scalar and its length in bytes; nil when the bytes do not start with a well-formed one.
  private static func leadingScalar(_ bytes: ArraySlice<UInt8>) -> (scalar: Unicode.Scalar, length: Int)? {
    var decoder = UTF8()
    var iterator = bytes.prefix(4).makeIterator()
    guard case .scalarValue(let scalar) = decoder.decode(&iterator) else { return nil }
    return (scalar, UTF8.width(scalar))
  }

  static func hexadecimal(_ byte: UInt8) -> String {
    let digits = Array("0123456789ABCDEF")
    return String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
  }

  /// A tenant as one path component.
  ///
  /// Letters, digits, `_` and, after the first character, `.` and `-` stand for themselves; everything else
  /// becomes `%NN`. So no tenant is `.`, `..` or hidden, and two tenants never share a directory.
  static func component(_ text: String) -> String {
    var component = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
        component.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: "."), UInt8(ascii: "-"):
        component += component.isEmpty ? "%" + hexadecimal(byte) : String(Unicode.Scalar(byte))
      default:
        component += "%" + hexadecimal(byte)
      }
    }
    return component
  }
}
