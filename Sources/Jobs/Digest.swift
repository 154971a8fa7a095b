/// A content digest in the one spelling used everywhere: `sha256:` and 64 lower-case hex digits.
public struct Digest: Codable, Hashable, Sendable, CustomStringConvertible {
  public let description: String

  /// Nil unless the text is exactly in that spelling.
  public init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard bytes.count == 71, text.hasPrefix("sha256:"),
      bytes.dropFirst(7).allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
    else { return nil }
    description = text
  }

  /// From the 32 bytes of a SHA-256 value.
  public init<Bytes: Sequence>(sha256 bytes: Bytes) where Bytes.Element == UInt8 {
    let digits = Array("0123456789abcdef".utf8)
    var text = Array("sha256:".utf8)
    for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    precondition(text.count == 71, "a SHA-256 value has 32 bytes")
    description = String(decoding: text, as: UTF8.self)
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let digest = Digest(text) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "a digest is sha256: and 64 lower-case hex digits")
    }
    self = digest
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
