enum Hexadecimal {
  static func bytes(_ bytes: some Sequence<UInt8>, upper: Bool = false) -> [UInt8] {
    let digits = Array((upper ? "0123456789ABCDEF" : "0123456789abcdef").utf8)
    return bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
  }

  static func lower(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Self.bytes(bytes), as: UTF8.self) }
}
