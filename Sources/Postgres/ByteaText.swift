/// PostgreSQL's text forms of `bytea`: `\x` and hex digits, or the older escape form with octal numbers.
enum ByteaText {
  private static let digits = Array("0123456789abcdef".utf8)

  static func encode(_ bytes: [UInt8]) -> String {
    var text = Array("\\x".utf8)
    text.reserveCapacity(2 + 2 * bytes.count)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Nil when the text is in neither form.
  static func decode(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    if text.count >= 2, text[0] == UInt8(ascii: "\\"), text[1] == UInt8(ascii: "x") {
      return decodeHex(UnsafeBufferPointer(rebasing: text[2...]))
    }
    return decodeEscape(text)
  }

  private static func decodeHex(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    guard text.count.isMultiple(of: 2) else { return nil }
    var valid = true
    let bytes = [UInt8](unsafeUninitializedCapacity: text.count / 2) { buffer, count in
      for index in 0..<(text.count / 2) {
        guard let high = nibble(text[2 * index]), let low = nibble(text[2 * index + 1]) else {
          valid = false
          return
        }
        buffer[index] = high << 4 | low
        count = index + 1
      }
    }
    return valid ? bytes : nil
  }

  private static func decodeEscape(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    var index = 0
    while index < text.count {
      guard text[index] == UInt8(ascii: "\\") else {
        bytes.append(text[index])
        index += 1
        continue
      }
      if index + 1 < text.count, text[index + 1] == UInt8(ascii: "\\") {
        bytes.append(UInt8(ascii: "\\"))
        index += 2
        continue
      }
      guard index + 3 < text.count else { return nil }
      let octal = text[(index + 1)...(index + 3)].map { Int($0) - 0x30 }
      guard octal.allSatisfy({ (0...7).contains($0) }), octal[0] <= 3 else { return nil }
      bytes.append(UInt8(octal[0] << 6 | octal[1] << 3 | octal[2]))
      index += 4
    }
    return bytes
  }

  private static func nibble(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit - 0x30
    case 0x61...0x66: digit - 0x61 + 10
    case 0x41...0x46: digit - 0x41 + 10
    default: nil
    }
  }
}
