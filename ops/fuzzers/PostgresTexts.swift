@testable import Postgres

/// Bytes a job printed, and texts it wrote, on their way into the database and back.
enum PostgresTexts: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      Array("\\x00ff".utf8), Array("a\\\\b\\001".utf8), Array("{a,\"b,c\\\"\",NULL}".utf8), Array("[0:1]={1,2}".utf8),
      Array("a\tb\nc\\.\r".utf8), Array("{}".utf8), Array("{{1}}".utf8),
    ]
  }

  static func run(_ bytes: [UInt8]) {
    let encoded = Array(ByteaText.encode(bytes).utf8)
    expect(encoded.withUnsafeBufferPointer { ByteaText.decode($0) } == bytes, "bytes survive a round trip")
    if let decoded = bytes.withUnsafeBufferPointer({ ByteaText.decode($0) }) {
      expect(decoded.count <= bytes.count, "a text has no fewer bytes than it stands for")
    }

    if let elements = try? ArrayLiteral.parse(bytes) {
      let texts = elements.map { $0.flatMap { String(validating: $0, as: UTF8.self) } }
      expect(
        (try? ArrayLiteral.parse(ArrayLiteral.encode(texts).utf8)) == texts.map { $0.map { Array($0.utf8) } },
        "an array survives a round trip")
    }
    let text = String(decoding: bytes, as: UTF8.self)
    let elements = try? ArrayLiteral.parse(ArrayLiteral.encode([text, nil]).utf8)
    expect(elements == [Array(text.utf8), nil], "any text can be an element")
  }
}
