import Jobs

// Attributions and reports are written by hand. There are two a job, always of these few members, and Foundation's encoder took
// a fair part of what a worker does between claim and completion: `drain_over_floor` of `ops/bench queue` is where it shows.

/// A JSON text that grows member by member.
struct JSONText {
  private var bytes: [UInt8] = []
  /// Nothing has been written since the last `{` or `[`.
  private var isFirst = true

  var text: String { String(decoding: bytes, as: UTF8.self) }

  init() { bytes.reserveCapacity(512) }

  mutating func member(_ name: StaticString, _ value: String?) {
    guard let value else { return }
    key(name)
    write(value)
  }

  mutating func member<Number: FixedWidthInteger>(_ name: StaticString, _ value: Number?) {
    guard let value else { return }
    key(name)
    bytes.append(contentsOf: value.description.utf8)
  }

  /// What is no finite number is left out, as what is not known.
  mutating func member(_ name: StaticString, _ value: Double) {
    guard value.isFinite else { return }
    key(name)
    bytes.append(contentsOf: value.description.utf8)
  }

  mutating func member(_ name: StaticString, _ value: Bool) {
    key(name)
    bytes.append(contentsOf: (value ? "true" : "false").utf8)
  }

  mutating func member(_ name: StaticString, _ values: [String]) {
    member(name, values) { text, value in text.write(value) }
  }

  mutating func member<Element>(
    _ name: StaticString, _ values: [Element], _ element: (inout JSONText, Element) -> Void
  ) {
    key(name)
    bytes.append(UInt8(ascii: "["))
    for (number, value) in values.enumerated() {
      if number > 0 { bytes.append(UInt8(ascii: ",")) }
      element(&self, value)
    }
    bytes.append(UInt8(ascii: "]"))
    isFirst = false
  }

  mutating func member<Value>(_ name: StaticString, _ value: Value?, _ members: (inout JSONText, Value) -> Void) {
    guard let value else { return }
    key(name)
    object { members(&$0, value) }
  }

  mutating func object(_ members: (inout JSONText) -> Void) {
    bytes.append(UInt8(ascii: "{"))
    isFirst = true
    members(&self)
    bytes.append(UInt8(ascii: "}"))
    isFirst = false
  }

  /// Names of members have nothing to escape.
  private mutating func key(_ name: StaticString) {
    if !isFirst { bytes.append(UInt8(ascii: ",")) }
    isFirst = false
    bytes.append(UInt8(ascii: "\""))
    name.withUTF8Buffer { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(ascii: "\""))
    bytes.append(UInt8(ascii: ":"))
  }

  /// RFC 8259, section 7. jsonb has no U+0000, and a completion must not fail for one in a message: U+FFFD stands for it.
  private mutating func write(_ value: String) {
    let digits = StaticString("0123456789abcdef").utf8Start
    bytes.append(UInt8(ascii: "\""))
    for byte in value.utf8 {
      switch byte {
      case 0: bytes.append(contentsOf: [0xEF, 0xBF, 0xBD])
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      case 1..<0x20:
        bytes.append(contentsOf: "\\u00".utf8)
        bytes.append(digits[Int(byte >> 4)])
        bytes.append(digits[Int(byte & 15)])
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
