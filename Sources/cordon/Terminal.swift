import Foundation

/// What goes to the person's terminal. Nothing a job wrote reaches a terminal unescaped: escape sequences can
/// rewrite what was printed before them, and bidirectional controls can reorder a name.
enum Terminal {
  static let outputIsTerminal = isatty(STDOUT_FILENO) == 1
  static let errorIsTerminal = isatty(STDERR_FILENO) == 1
  private static let coloursWanted = ProcessInfo.processInfo.environment["NO_COLOR"] == nil

  enum Style: String {
    case good = "32"
    case bad = "31"
    case dim = "2"
    case strong = "1"
  }

  /// The text in a colour where stdout is a terminal and NO_COLOR is not set.
  static func styled(_ text: String, _ style: Style, terminal: Bool = outputIsTerminal) -> String {
    terminal && coloursWanted ? "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m" : text
  }

  static func line(_ text: String = "") {
    write(Array((text + "\n").utf8), to: STDOUT_FILENO)
  }

  static func errorLine(_ text: String) {
    write(Array((text + "\n").utf8), to: STDERR_FILENO)
  }

  /// How far something has come, in the place of what was said before; nil wipes it. Only where stderr is a terminal.
  static func progress(_ text: String?) {
    guard errorIsTerminal else { return }
    write(Array("\r\u{1B}[K\(text ?? "")".utf8), to: STDERR_FILENO)
  }

  /// Job output: the very bytes into a file or pipe, escaped onto a terminal.
  static func jobBytes(_ bytes: [UInt8], to descriptor: Int32, raw: Bool = false) {
    let isTerminal = descriptor == STDOUT_FILENO ? outputIsTerminal : errorIsTerminal
    write(isTerminal && !raw ? Array(escape(bytes).utf8) : bytes, to: descriptor)
  }

  /// Printable text that shows every other byte as `\xNN`; newlines and tabs stay.
  static func escape(_ bytes: [UInt8]) -> String {
    var text = ""
    var rest = bytes[...]
    while !rest.isEmpty {
      // `validating` needs whole scalars: take the longest valid prefix of at most four bytes.
      let scalar = (1...min(4, rest.count)).lazy.compactMap { length in
        String(validating: rest.prefix(length), as: UTF8.self).map { (length, $0) }
      }.first
      if let (length, character) = scalar {
        text += escape(character, keeping: "\n\t")
        rest = rest.dropFirst(length)
      } else {
        text += hex(rest.removeFirst())
      }
    }
    return text
  }

  /// The text with control and bidirectional characters shown as escapes; for one line, so newlines too.
  static func escape(_ text: String, keeping kept: String = "") -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      if kept.unicodeScalars.contains(scalar) {
        escaped.unicodeScalars.append(scalar)
        continue
      }
      switch scalar.properties.generalCategory {
      case .control: escaped += hex(UInt8(truncatingIfNeeded: scalar.value))
      case .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned:
        escaped += "\\u{\(String(scalar.value, radix: 16))}"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  private static func hex(_ byte: UInt8) -> String {
    "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
  }

  private static func write(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if written < 0 && errno == EINTR { continue }
      // Nobody reads any more (a closed pipe): there is no one left to tell.
      guard written > 0 else { return }
      rest = rest.dropFirst(written)
    }
  }
}
