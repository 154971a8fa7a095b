import NIOCore

@testable import Broker

/// The body of a message in chunks, which a job or a server sends.
enum MessageBodies: Fuzzer {
  static var seeds: [[UInt8]] {
    ["3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET", "0\r\n\r\n", "3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n"].map {
      Array($0.utf8)
    }
  }

  static func run(_ bytes: [UInt8]) {
    let whole = decode(bytes, pieces: max(bytes.count, 1))
    expect(whole == decode(bytes, pieces: 1), "a body is the same in whatever pieces it comes")
    guard let whole else { return }
    expect(whole.body.count + whole.rest.count <= bytes.count, "nothing comes out that did not go in")
    expect(bytes.suffix(whole.rest.count).elementsEqual(whole.rest), "what is behind a body is left alone")
  }

  private struct Result: Equatable {
    var body: [UInt8] = []
    var rest: [UInt8] = []
    var isDone = false
  }

  /// Nil where it is refused.
  private static func decode(_ bytes: [UInt8], pieces: Int) -> Result? {
    guard var decoder = try? BodyDecoder(RequestHead.Framing.chunked, most: 1_000) else { return nil }
    var result = Result()
    var left = bytes[...]
    while !left.isEmpty {
      var input = ByteBuffer(bytes: left.prefix(pieces))
      left = left.dropFirst(pieces)
      do {
        while let piece = try decoder.next(&input) { result.body += piece.readableBytesView }
      } catch { return nil }
      result.rest += input.readableBytesView
    }
    result.isDone = decoder.isDone
    return result
  }
}
