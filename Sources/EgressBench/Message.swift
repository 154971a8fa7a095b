import NIOCore

/// What a client says to the bench's server: always as long, so that nothing has to be parsed.
struct Message: Equatable {
  enum Wish: Equatable {
    /// The message itself comes back.
    case echo
    /// So many bytes come.
    case stream(Int)
  }

  static let size = 200

  var wish: Wish

  init(_ wish: Wish) { self.wish = wish }

  /// Nil where the message is not there as a whole.
  init?(_ bytes: inout ByteBuffer) {
    guard var message = bytes.readSlice(length: Self.size), let count = message.readInteger(as: Int64.self) else {
      return nil
    }
    wish = count == 0 ? .echo : .stream(Int(count))
  }

  var bytes: ByteBuffer {
    var bytes = ByteBuffer()
    switch wish {
    case .echo: bytes.writeInteger(Int64(0))
    case .stream(let count): bytes.writeInteger(Int64(count))
    }
    bytes.writeRepeatingByte(0x78, count: Self.size - bytes.readableBytes)
    return bytes
  }
}
