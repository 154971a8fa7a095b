import Sandbox

/// What a job printed, between the cell and a database that takes its time.
enum LogBuffers: Fuzzer {
  static var seeds: [[UInt8]] { [[0, 0, 9, 2, 3, 1, 1, 0, 2, 0, 0], [0, 255, 255, 0, 255, 255, 2, 3, 1, 0, 7]] }

  static func run(_ bytes: [UInt8]) {
    var choices = Choices(bytes)
    var buffer = LogBuffer()
    var (printed, stored): ([String: [UInt8]], [String: [UInt8]]) = ([:], [:])
    var count = 0
    /// Writes the next piece, unless the statement fails: then it has to be the same one the next time.
    func write(succeeds: Bool) {
      guard let chunk = buffer.take() else { return expect(buffer.isEmpty, "nothing waits where nothing is given out") }
      expect((1...LogBuffer.chunkLimit).contains(chunk.bytes.count), "a piece has its bounds")
      guard succeeds else { return expect(buffer.take() == chunk, "a piece stays the same until it is stored") }
      stored[chunk.stream, default: []] += chunk.bytes
      buffer.stored()
    }
    while !choices.isEmpty, count < 1 << 20 {
      switch choices.byte() % 4 {
      case 2: write(succeeds: false)
      case 3: write(succeeds: true)
      case let kind:
        let stream = kind == 0 ? "stdout" : "stderr"
        let piece = (0...choices.number(below: 1 << 15)).map { UInt8(truncatingIfNeeded: $0 + count) }
        count += piece.count
        printed[stream, default: []] += piece
        buffer.append(OutputChunk(stream: stream, bytes: piece))
      }
    }
    while !buffer.isEmpty { write(succeeds: true) }
    expect(stored == printed, "every byte is stored once and in order")
  }
}
