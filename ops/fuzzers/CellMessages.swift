import Kernel

@testable import cordon_warden

/// What a cell's own process says to the warden; who breaks into one before it becomes the job can say anything.
enum CellMessages: Fuzzer {
  static var seeds: [[UInt8]] {
    let messages: [CellMessage] = [
      .ready, .running(since: Instant(microseconds: 1 << 40)), .failed(.execute, errno: 13), .failed(.order, errno: -1),
    ]
    return messages.map(\.encoded)
  }

  static func run(_ bytes: [UInt8]) {
    guard let message = CellMessage(decoding: bytes) else { return }
    expect(message.encoded == bytes, "what was decoded encodes to the same bytes")
    if case .running(let since) = message {
      expect(since.advanced(milliseconds: 30 * 86_400_000) >= since, "a time limit ends after its beginning")
    }
  }
}
