/// The text form of COPY: columns apart by tabs, rows by newlines, `\N` for NULL.
enum CopyText {
  static func append(_ row: [Parameter], to buffer: inout [UInt8]) {
    for (index, parameter) in row.enumerated() {
      if index > 0 { buffer.append(UInt8(ascii: "\t")) }
      switch parameter.content {
      case .null: buffer += Array("\\N".utf8)
      case .text(let text): appendEscaped(text, to: &buffer)
      case .binary(let bytes): appendEscaped(ByteaText.encode(bytes), to: &buffer)
      }
    }
    buffer.append(UInt8(ascii: "\n"))
  }

  private static func appendEscaped(_ text: String, to buffer: inout [UInt8]) {
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\\"): buffer += [UInt8(ascii: "\\"), UInt8(ascii: "\\")]
      case UInt8(ascii: "\t"): buffer += [UInt8(ascii: "\\"), UInt8(ascii: "t")]
      case UInt8(ascii: "\n"): buffer += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
      case UInt8(ascii: "\r"): buffer += [UInt8(ascii: "\\"), UInt8(ascii: "r")]
      default: buffer.append(byte)
      }
    }
  }
}
