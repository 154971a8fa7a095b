import NIOCore

/// The body behind a head, taken out of its framing piece by piece; a value, without I/O.
///
/// Of chunked bodies it takes what every reader reads alike: sizes in plain hexadecimal digits, CR LF, no extensions and no trailers. In
/// those two, readers have differed about where a body ends.
struct BodyDecoder: Equatable, Sendable {
  private enum State: Equatable {
    case length(Int)
    case size([UInt8])
    case chunk(Int)
    /// How many bytes of CR LF have come behind a chunk.
    case chunkEnd(Int)
    case lastEnd(Int)
    case untilClose
    case done
  }

  private var state: State
  /// Bytes of the body that are still allowed.
  private var allowance: Int

  struct Refusal: Error, Equatable {
    let reason: String
  }

  /// - Parameter most: bytes that the body may have.
  init(_ framing: ResponseHead.Framing, most: Int) throws(Refusal) {
    allowance = most
    switch framing {
    case .none: state = .done
    case .length(let length):
      guard length <= most else { throw Refusal(reason: "a body of more than \(most) bytes") }
      state = length == 0 ? .done : .length(length)
    case .chunked: state = .size([])
    case .untilClose: state = .untilClose
    }
  }

  init(_ framing: RequestHead.Framing, most: Int) throws(Refusal) {
    switch framing {
    case .none: try self.init(ResponseHead.Framing.none, most: most)
    case .length(let length): try self.init(ResponseHead.Framing.length(length), most: most)
    case .chunked: try self.init(ResponseHead.Framing.chunked, most: most)
    }
  }

  var isDone: Bool { state == .done }

  /// Takes the next piece of the body out of `input`; nil where all of it is used up or the body is done. What is left then belongs to
  /// the next message.
  mutating func next(_ input: inout ByteBuffer) throws(Refusal) -> ByteBuffer? {
    while true {
      switch state {
      case .done: return nil
      case .untilClose: return try piece(&input, most: input.readableBytes) { _ in .untilClose }
      case .length(let left):
        return try piece(&input, most: left) { $0 == left ? .done : .length(left - $0) }
      case .chunk(let left):
        return try piece(&input, most: left) { $0 == left ? .chunkEnd(0) : .chunk(left - $0) }
      case .size(let digits):
        guard let byte = input.readInteger(as: UInt8.self) else { return nil }
        state = try size(digits, byte)
      case .chunkEnd(let seen):
        guard let byte = input.readInteger(as: UInt8.self) else { return nil }
        try lineEnd(seen, byte)
        state = seen == 0 ? .chunkEnd(1) : .size([])
      case .lastEnd(let seen):
        guard let byte = input.readInteger(as: UInt8.self) else { return nil }
        guard byte == [13, 10][seen] else { throw Refusal(reason: "trailers behind a chunked body") }
        state = seen == 0 ? .lastEnd(1) : .done
      }
    }
  }

  /// The connection has ended.
  mutating func end() throws(Refusal) {
    guard state == .done || state == .untilClose else { throw Refusal(reason: "a body that breaks off") }
    state = .done
  }

  private mutating func piece(
    _ input: inout ByteBuffer, most: Int, _ then: (Int) -> State
  ) throws(Refusal) -> ByteBuffer? {
    let count = min(most, input.readableBytes)
    guard count > 0, let piece = input.readSlice(length: count) else { return nil }
    guard count <= allowance else { throw Refusal(reason: "a body of more bytes than are allowed") }
    allowance -= count
    state = then(count)
    return piece
  }

  private func size(_ digits: [UInt8], _ byte: UInt8) throws(Refusal) -> State {
    if byte == 10, digits.last == 13 {
      guard let size = Int(String(decoding: digits.dropLast(), as: UTF8.self), radix: 16) else {
        throw Refusal(reason: "a chunk without a size")
      }
      return size == 0 ? .lastEnd(0) : .chunk(size)
    }
    let isDigit = (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20) && byte >= 0x41
    // Fifteen digits fit an Int.
    guard digits.last != 13, isDigit || byte == 13 && !digits.isEmpty, digits.count < 15 + (byte == 13 ? 1 : 0) else {
      throw Refusal(reason: "a chunk's size that is not hexadecimal digits and a line end")
    }
    return .size(digits + [byte])
  }

  private func lineEnd(_ seen: Int, _ byte: UInt8) throws(Refusal) {
    guard byte == [13, 10][seen] else { throw Refusal(reason: "a chunk that is longer than its size") }
  }
}
