/// PostgreSQL's text form of one-dimensional arrays: `{a,"b,c",NULL}`.
enum ArrayLiteral {
  struct Malformed: Error, Equatable {
    let reason: String
  }

  /// Every element is quoted, so that the word NULL, spaces and braces stay text.
  static func encode(_ elements: [String?]) -> String {
    // In bytes: no byte of a character beyond ASCII is a quote or a backslash.
    let (quote, backslash) = (UInt8(ascii: "\""), UInt8(ascii: "\\"))
    var text = [UInt8(ascii: "{")]
    text.reserveCapacity(elements.reduce(2) { $0 + 3 + ($1?.utf8.count ?? 4) })
    for (index, element) in elements.enumerated() {
      if index > 0 { text.append(UInt8(ascii: ",")) }
      guard let element else {
        text += "NULL".utf8
        continue
      }
      text.append(quote)
      for byte in element.utf8 {
        if byte == quote || byte == backslash { text.append(backslash) }
        text.append(byte)
      }
      text.append(quote)
    }
    text.append(UInt8(ascii: "}"))
    return String(decoding: text, as: UTF8.self)
  }

  /// The elements in order, nil for NULL. Lower bounds (`[0:1]={…}`) are dropped; more than one dimension is refused.
  static func parse(_ text: some Collection<UInt8>) throws(Malformed) -> [[UInt8]?] {
    var bytes = text[...]
    if bytes.first == UInt8(ascii: "[") {
      guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")) else {
        throw Malformed(reason: "bounds without =")
      }
      bytes = bytes[bytes.index(after: equals)...]
    }
    guard bytes.popFirst() == UInt8(ascii: "{") else { throw Malformed(reason: "no opening brace") }
    var elements: [[UInt8]?] = []
    if bytes.first == UInt8(ascii: "}") {
      bytes = bytes.dropFirst()
    } else {
      repeat {
        elements.append(try element(&bytes))
        guard let separator = bytes.popFirst() else { throw Malformed(reason: "no closing brace") }
        if separator == UInt8(ascii: "}") { break }
        guard separator == UInt8(ascii: ",") else { throw Malformed(reason: "text after an element") }
      } while true
    }
    guard bytes.isEmpty else { throw Malformed(reason: "text after the closing brace") }
    return elements
  }

  private static func element<Bytes: Collection<UInt8>>(_ bytes: inout Bytes) throws(Malformed) -> [UInt8]?
  where Bytes.SubSequence == Bytes {
    var value: [UInt8] = []
    if bytes.first == UInt8(ascii: "\"") {
      bytes = bytes.dropFirst()
      while let byte = bytes.popFirst() {
        if byte == UInt8(ascii: "\"") { return value }
        guard byte == UInt8(ascii: "\\") else {
          value.append(byte)
          continue
        }
        guard let escaped = bytes.popFirst() else { break }
        value.append(escaped)
      }
      throw Malformed(reason: "no closing quote")
    }
    if bytes.first == UInt8(ascii: "{") { throw Malformed(reason: "more than one dimension") }
    var quoted = false
    while let byte = bytes.first, byte != UInt8(ascii: ","), byte != UInt8(ascii: "}") {
      bytes = bytes.dropFirst()
      if byte == UInt8(ascii: "\\") {
        quoted = true
        guard let escaped = bytes.popFirst() else { throw Malformed(reason: "backslash at the end") }
        value.append(escaped)
      } else {
        value.append(byte)
      }
    }
    if value.isEmpty { throw Malformed(reason: "empty element") }
    return !quoted && value == Array("NULL".utf8) ? nil : value
  }
}
