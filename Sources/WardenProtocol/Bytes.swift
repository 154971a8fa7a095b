/// A message that cannot be decoded. `offset` is where in the packet the decoder stopped.
public struct MalformedMessage: Error, Equatable, Sendable, CustomStringConvertible {
  public var reason: String
  public var offset: Int

  public var description: String { "malformed message at byte \(offset): \(reason)" }
}

/// Little-endian writer of the wire form: fixed-width integers; texts and lists behind a 32-bit count.
struct ByteWriter {
  var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func put(_ value: Bool) { put(UInt8(value ? 1 : 0)) }

  mutating func put(_ text: String) { put(Array(text.utf8)) }

  mutating func put(_ value: [UInt8]) {
    put(UInt32(value.count))
    bytes += value
  }

  mutating func put<Element>(list: [Element], each: (inout ByteWriter, Element) -> Void) {
    put(UInt32(list.count))
    for element in list { each(&self, element) }
  }
}

/// The reverse of `ByteWriter`; never reads beyond its bytes and never allocates more than they justify.
struct ByteReader {
  private let bytes: [UInt8]
  private(set) var offset = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func malformed(_ reason: String) -> MalformedMessage { MalformedMessage(reason: reason, offset: offset) }

  mutating func take<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws(MalformedMessage) -> Value {
    let width = Value.bitWidth / 8
    guard bytes.count - offset >= width else { throw malformed("cut short") }
    var value: Value = 0
    for index in (0..<width).reversed() { value = value << 8 | Value(truncatingIfNeeded: bytes[offset + index]) }
    offset += width
    return value
  }

  mutating func takeBool() throws(MalformedMessage) -> Bool {
    switch try take(UInt8.self) {
    case 0: return false
    case 1: return true
    default: throw malformed("a flag is 0 or 1")
    }
  }

  mutating func takeBytes(atMost limit: Int) throws(MalformedMessage) -> [UInt8] {
    let count = Int(try take(UInt32.self))
    guard count <= limit else { throw malformed("\(count) bytes where at most \(limit) may stand") }
    guard bytes.count - offset >= count else { throw malformed("cut short") }
    defer { offset += count }
    return Array(bytes[offset..<offset + count])
  }

  mutating func takeText(atMost limit: Int = Bounds.textBytes) throws(MalformedMessage) -> String {
    guard let text = String(validating: try takeBytes(atMost: limit), as: UTF8.self) else {
      throw malformed("text is not UTF-8")
    }
    return text
  }

  mutating func takeList<Element>(
    atMost limit: Int, each: (inout ByteReader) throws(MalformedMessage) -> Element
  ) throws(MalformedMessage) -> [Element] {
    let count = Int(try take(UInt32.self))
    guard count <= limit else { throw malformed("\(count) entries where at most \(limit) may stand") }
    var list: [Element] = []
    for _ in 0..<count { list.append(try each(&self)) }
    return list
  }

  func finish() throws(MalformedMessage) {
    guard offset == bytes.count else { throw malformed("bytes behind the end") }
  }
}
