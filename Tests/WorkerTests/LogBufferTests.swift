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
    #expect(buffer.chunks.map(\.stream) == ["stdout", "stderr", "stdout"])
    #expect(buffer.chunks.map { String(decoding: $0.bytes, as: UTF8.self) } == ["ab", "c", "d"])
  }

  @Test("a piece never grows over the limit")
  func limit() {
    var buffer = LogBuffer()
    let half = [UInt8](repeating: 1, count: LogBuffer.chunkLimit / 2 + 1)
    buffer.append(OutputChunk(stream: "stdout", bytes: half))
    buffer.append(OutputChunk(stream: "stdout", bytes: half))
    #expect(buffer.chunks.count == 2)
    buffer.removeFirst()
    #expect(buffer.chunks.count == 1)
  }
}
