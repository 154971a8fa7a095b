import Kernel

@testable import cordon_warden

/// What a cell's init says to the warden; who breaks into an init can say anything.
enum CellMessages: Fuzzer {
  static var seeds: [[UInt8]] {
    let messages: [CellMessage] = [
      .prepared, .running(since: Instant(microseconds: 1 << 40)), .refused(WardenReplies.refusal),
      .ended(.exited(3)), .ended(.signaled(9)),
    ]
    return messages.map(\.encoded)
  }

  static func run(_ bytes: [UInt8]) {
    guard let message = CellMessage(decoding: bytes) else { return }
    expect(message.encoded == bytes, "what was decoded encodes to the same bytes")
  }
}
