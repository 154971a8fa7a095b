import Sandbox
import Testing

@testable import Worker

@Suite("Output on its way to the database")
struct LogBufferTests {
  @Test("neighbours of one stream are joined, order between streams is kept")
  func joining() {
    var buffer = LogBuffer()
    for (stream, text) in [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")] {
      buffer.append(OutputChunk(stream: stream, bytes: Array(text.utf8)))
    }
    #expect(buffer.waiting.map(\.stream) == ["stdout", "stderr", "stdout"])
    #expect(buffer.waiting.map { String(decoding: $0.bytes, as: UTF8.self) } == ["ab", "c", "d"])
  }

  @Test("a piece never grows over the limit")
  func limit() {
    var buffer = LogBuffer()
    let half = [UInt8](repeating: 1, count: LogBuffer.chunkLimit / 2 + 1)
    buffer.append(OutputChunk(stream: "stdout", bytes: half))
    buffer.append(OutputChunk(stream: "stdout", bytes: half))
    #expect(buffer.waiting.count == 2)
  }

  @Test("what arrives while a piece is being written is not taken for written with it")
  func underWay() {
    var buffer = LogBuffer()
    buffer.append(OutputChunk(stream: "stdout", bytes: [1]))
    #expect(buffer.take()?.bytes == [1])
    buffer.append(OutputChunk(stream: "stdout", bytes: [2]))
    // The write failed: the same piece again, unchanged.
    #expect(buffer.take()?.bytes == [1])
    buffer.stored()
    #expect(!buffer.isEmpty)
    #expect(buffer.take()?.bytes == [2])
    buffer.stored()
    #expect(buffer.isEmpty)
    #expect(buffer.take() == nil)
  }
}
