import Kernel
import WardenProtocol

// What a job's own process tells the warden before it becomes the job, over the cell's packet socket; in the other
// direction goes one packet, the order itself. The job never holds an end of it.

/// One packet from a cell.
enum CellMessage: Equatable {
  /// Descriptors: root of /output, root of /result. The cell is built, and the process confined.
  case prepared
  /// No descriptors. An interpreter that was to be started has come up, and waits.
  case ready
  /// No descriptors. The process is about to execute the job.
  case running(since: Instant)
  /// No descriptors. The cell cannot be made as ordered, or its program not be executed.
  case refused(Refusal)

  static let preparedTag: UInt8 = 1
  static let readyTag: UInt8 = 2
  static let runningTag: UInt8 = 3
  static let refusedTag: UInt8 = 4

  /// The bytes of the packet.
  var encoded: [UInt8] {
    switch self {
    case .prepared: [CellMessage.preparedTag]
    case .ready: [CellMessage.readyTag]
    case .running(let since):
      [CellMessage.runningTag] + withUnsafeBytes(of: since.microseconds.littleEndian, Array.init)
    case .refused(let refusal): [CellMessage.refusedTag] + WardenReply.cannot(refusal).encoded
    }
  }

  /// Nil for anything else.
  init?(decoding bytes: [UInt8]) {
    switch (bytes.first, bytes.count) {
    case (CellMessage.preparedTag, 1): self = .prepared
    case (CellMessage.readyTag, 1): self = .ready
    case (CellMessage.runningTag, 1 + MemoryLayout<Int64>.size):
      let microseconds = bytes.dropFirst().reversed().reduce(Int64(0)) { $0 << 8 | Int64($1) }
      self = .running(since: Instant(microseconds: microseconds))
    case (CellMessage.refusedTag, _):
      guard case .cannot(let refusal)? = try? WardenReply(decoding: Array(bytes.dropFirst())) else { return nil }
      self = .refused(refusal)
    default: return nil
    }
  }
}
