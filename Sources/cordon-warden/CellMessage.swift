import Kernel
import WardenProtocol

// What a cell's init tells the warden, over the cell's own packet socket; in the other direction goes one packet,
// the order itself. The job never holds an end of it.

/// One packet from a cell's init.
enum CellMessage {
  /// No descriptors. Namespaces and /proc are there; waiting for the groups and the order.
  case prepared
  /// Descriptors: pidfd of the main process, root of /output, root of /result. The job runs since then, by the
  /// monotonic clock, which has no namespace: a short job may be over before the warden reads this.
  case running(since: Instant)
  /// No descriptors. The cell cannot be made as ordered; init exits.
  case refused(Refusal)
  /// No descriptors. The main process ended; init exits and with it whatever is left in the cell.
  case ended(WaitStatus)

  private static let preparedTag: UInt8 = 1
  private static let runningTag: UInt8 = 2
  private static let refusedTag: UInt8 = 3
  private static let exitedTag: UInt8 = 4
  private static let signaledTag: UInt8 = 5

  /// The bytes of the packet.
  var encoded: [UInt8] {
    switch self {
    case .prepared: [CellMessage.preparedTag]
    case .running(let since):
      [CellMessage.runningTag] + withUnsafeBytes(of: since.microseconds.littleEndian, Array.init)
    case .refused(let refusal): [CellMessage.refusedTag] + WardenReply.cannot(refusal).encoded
    // Exit codes and signals are below 256.
    case .ended(.exited(let code)): [CellMessage.exitedTag, UInt8(truncatingIfNeeded: code)]
    case .ended(.signaled(let signal)): [CellMessage.signaledTag, UInt8(truncatingIfNeeded: signal)]
    }
  }

  /// Nil for anything else.
  init?(decoding bytes: [UInt8]) {
    switch (bytes.first, bytes.count) {
    case (CellMessage.preparedTag, 1): self = .prepared
    case (CellMessage.runningTag, 1 + MemoryLayout<Int64>.size):
      let microseconds = bytes.dropFirst().reversed().reduce(Int64(0)) { $0 << 8 | Int64($1) }
      self = .running(since: Instant(microseconds: microseconds))
    case (CellMessage.refusedTag, _):
      guard case .cannot(let refusal)? = try? WardenReply(decoding: Array(bytes.dropFirst())) else { return nil }
      self = .refused(refusal)
    case (CellMessage.exitedTag, 2): self = .ended(.exited(Int32(bytes[1])))
    case (CellMessage.signaledTag, 2): self = .ended(.signaled(Int32(bytes[1])))
    default: return nil
    }
  }
}
