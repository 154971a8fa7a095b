/// What a job printed, and names of its own, on their way to a person's terminal.
enum TerminalTexts: Fuzzer {
  static var seeds: [[UInt8]] {
    EscapedNames.seeds + [Array("a\r\n\tb\u{9B}2J\u{85}".utf8), [0xE2, 0x80], [0xF0, 0x9F, 0x98]]
  }

  static var words: [[UInt8]] { ["\u{1B}[", "\u{9B}", "\u{202E}", "\u{2028}", "\r\n", "\u{7}"].map { Array($0.utf8) } }

  static func run(_ bytes: [UInt8]) {
    check(Terminal.escape(bytes), keeping: "\n\t")
    let text = String(decoding: bytes, as: UTF8.self)
    check(Terminal.escape(text))
    check(Terminal.styled(Terminal.escape(text), .bad, terminal: false))
    // What is plain stays as it is, and nothing is lost: every byte is there, or stands as an escape.
    if bytes.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x0A || $0 == 0x09 }) {
      expect(Array(Terminal.escape(bytes).utf8) == bytes, "plain text stays as it is")
    }
    expect(Terminal.escape(bytes).utf8.count >= bytes.count, "nothing is left out")
  }

  /// Nothing in the text does anything to a terminal.
  static func check(_ text: String, keeping kept: String = "") {
    for scalar in text.unicodeScalars where !kept.unicodeScalars.contains(scalar) {
      expect(
        ![.control, .format, .lineSeparator, .paragraphSeparator].contains(scalar.properties.generalCategory)
          && !scalar.properties.isBidiControl, "no control character reaches a terminal: \(scalar.value)")
    }
  }
}
