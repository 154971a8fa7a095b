/// File names are bytes; a manifest is text. This is the one spelling in which a name is shown.
///
/// Valid UTF-8 stands for itself, except control characters (C0, DEL, C1), the characters that reorder text or are
/// not seen at all (bidirectional marks, line and paragraph separators, whatever Unicode lets a renderer ignore: soft
/// hyphens, joiners, fillers, variation selectors, tags) and the backslash; those, and every byte that is no UTF-8,
/// become `\xNN` for each byte. The map is injective, so two files never share a line of the manifest, no two lines
/// look alike for an invisible character, and a published file is found again from its line.
public enum EscapedName {
  static func show(_ bytes: some Sequence<UInt8>) -> String {
    let bytes = Array(bytes)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count)
    var offset = 0
    while offset < bytes.count {
      let leading = leadingScalar(bytes, offset)
      let length = leading?.length ?? 1
      if let leading, isPlain(leading.value) {
        text += bytes[offset..<offset + length]
      } else {
        for byte in bytes[offset..<offset + length] {
          text += [UInt8(ascii: "\\"), UInt8(ascii: "x"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
      }
      offset += length
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// The components of a path from its spelling in a manifest; nil for one that is absolute, empty or has `.` or `..` in
  /// it, or that is no spelling, which a manifest never holds unless somebody forged it.
  public static func components(of spelling: String) -> [[UInt8]]? {
    var bytes: [UInt8] = []
    var rest = Array(spelling.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        bytes.append(byte)
        continue
      }
      // Not by UInt8(_:radix:), which takes a sign for a digit.
      guard rest.popFirst() == UInt8(ascii: "x"), let high = rest.popFirst().flatMap(digit),
        let low = rest.popFirst().flatMap(digit)
      else { return nil }
      bytes.append(high << 4 | low)
    }
    let components = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init)
    let isPlain = components.allSatisfy { !$0.isEmpty && $0 != [0x2E] && $0 != [0x2E, 0x2E] && !$0.contains(0) }
    return isPlain ? components : nil
  }

  private static func digit(_ byte: UInt8) -> UInt8? { digits.firstIndex(of: byte).map { UInt8($0) } }

  private static func isPlain(_ scalar: UInt32) -> Bool {
    switch scalar {
    case 0x00...0x1F, 0x5C, 0x7F...0x9F: false
    // Spelled out, because a line must not change with the Unicode version of the library that writes it.
    case 0xAD, 0x034F, 0x061C, 0x115F...0x1160, 0x17B4...0x17B5, 0x180B...0x180F, 0x200B...0x200F, 0x2028...0x202E,
      0x2060...0x206F, 0x3164, 0xFE00...0xFE0F, 0xFEFF, 0xFFA0, 0xFFF0...0xFFFB, 0x1BCA0...0x1BCA3,
      0x1D173...0x1D17A, 0xE0000...0xE0FFF:
      false
    default: true
    }
  }

  /// The scalar at the offset and its length in bytes; nil when what stands there is not well-formed. By the table of
  /// well-formed byte sequences of the Unicode standard (3-7).
  private static func leadingScalar(_ bytes: [UInt8], _ offset: Int) -> (value: UInt32, length: Int)? {
    let first = bytes[offset]
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xBF
    switch first {
    case 0x00...0x7F: return (UInt32(first), 1)
    case 0xC2...0xDF: length = 2
    case 0xE0...0xEF:
      length = 3
      if first == 0xE0 { second = 0xA0...0xBF }
      if first == 0xED { second = 0x80...0x9F }
    case 0xF0...0xF4:
      length = 4
      if first == 0xF0 { second = 0x90...0xBF }
      if first == 0xF4 { second = 0x80...0x8F }
    default: return nil
    }
    guard offset + length <= bytes.count, second.contains(bytes[offset + 1]) else { return nil }
    var value = UInt32(first) & (0x7F >> UInt32(length))
    for byte in bytes[offset + 1..<offset + length] {
      guard byte & 0xC0 == 0x80 else { return nil }
      value = value << 6 | UInt32(byte & 0x3F)
    }
    return (value, length)
  }

  private static let digits = Array("0123456789ABCDEF".utf8)

  static func hexadecimal(_ byte: UInt8) -> String {
    String(decoding: [digits[Int(byte >> 4)], digits[Int(byte & 15)]], as: UTF8.self)
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
