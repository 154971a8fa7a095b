@testable import Sandbox

/// What a job prints, in whatever pieces and at whatever times.
enum StreamCaptures: Fuzzer {
  static var seeds: [[UInt8]] {
    [[0, 0], [3, 200, 0, 10, 0, 1, 30, 1], [255, 255, 1, 255, 255, 1, 255, 255, 0, 0, 9, 9, 2, 0, 0]]
  }

  static func run(_ bytes: [UInt8]) {
    var choices = Choices(bytes)
    let cap = Int64(choices.number(below: 1 << 16)) * Int64(choices.byte() % 5)
    var capture = StreamCapture(cap: cap)
    var now = ContinuousClock.now
    var written: Int64 = 0
    var kept: [UInt8] = []
    while !choices.isEmpty, written < 1 << 21 {
      now += .milliseconds(Int(choices.byte() % 32))
      switch choices.byte() % 4 {
      case 0:
        if let rest = capture.flush(now: now) {
          expect(!rest.isEmpty && rest.count < StreamCapture.chunkBytes, "less than a chunk waits")
          kept += rest
        }
        expect(capture.due == nil, "nothing waits behind a flush")
      default:
        let count = choices.number(below: 3 * StreamCapture.chunkBytes)
        let piece = (0..<count).map { UInt8(truncatingIfNeeded: written + Int64($0)) }
        for chunk in capture.take(piece[...], now: now) {
          expect((1...StreamCapture.chunkBytes).contains(chunk.count), "a chunk has its bounds")
          kept += chunk
        }
        written += Int64(count)
      }
      expect(capture.bytes == written, "every byte counts")
      var copy = capture
      let waiting = copy.flush(now: now)?.count ?? 0
      expect(waiting < StreamCapture.chunkBytes, "no more is kept in memory than a chunk")
      expect(Int64(kept.count + waiting) == min(cap, written), "the cap is kept, and all beneath it")
      expect((capture.due == nil) == (waiting == 0), "what waits has a time")
    }
    kept += capture.flush(now: now) ?? []
    expect(
      kept.enumerated().allSatisfy { UInt8(truncatingIfNeeded: $0.offset) == $0.element },
      "bytes are kept in their order")
  }
}
