import Kernel
import WardenProtocol

// What a job's own process tells the warden before it becomes the job, over the cell's packet socket; in the other
// direction goes one packet, the order itself. The job never holds an end of it.

/// One packet from a cell. None carries a descriptor.
enum CellMessage: Equatable {
  /// An interpreter that was to be started has come up, and waits.
  case ready
  /// The process is about to execute the job.
  case running(since: Instant)
  /// The job was not executed: at which step, and the errno.
  case failed(Step, errno: Int32)

  /// As in `cordon-cell`, which writes these bytes.
  enum Step: UInt8, CaseIterable {
    case order = 1
    case streams = 2
    case directory = 3
    case execute = 4
    /// Not said by `cordon-cell`, which was confined before it was executed.
    case confine = 5
  }

  static let readyTag: UInt8 = 1
  static let runningTag: UInt8 = 2
  static let failedTag: UInt8 = 3

  /// The bytes of the packet.
  var encoded: [UInt8] {
    switch self {
    case .ready: [CellMessage.readyTag]
    case .running(let since):
      [CellMessage.runningTag] + withUnsafeBytes(of: since.microseconds.littleEndian, Array.init)
    case .failed(let step, let errno):
      [CellMessage.failedTag, step.rawValue] + withUnsafeBytes(of: errno.littleEndian, Array.init)
    }
  }

  /// Nil for anything else.
  init?(decoding bytes: [UInt8]) {
    switch (bytes.first, bytes.count) {
    case (CellMessage.readyTag, 1): self = .ready
    case (CellMessage.runningTag, 1 + MemoryLayout<Int64>.size):
      self = .running(since: Instant(microseconds: CellMessage.number(bytes.dropFirst())))
    case (CellMessage.failedTag, 2 + MemoryLayout<Int32>.size):
      guard let step = Step(rawValue: bytes[1]) else { return nil }
      self = .failed(step, errno: CellMessage.number(bytes.dropFirst(2)))
    default: return nil
    }
  }

  /// As many bytes as the number has, the lowest first.
  private static func number<Number: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>) -> Number {
    bytes.reversed().reduce(0) { $0 << 8 | Number(truncatingIfNeeded: $1) }
  }

  /// Why the job was not executed, for the worker; nil for other messages.
  func refusal(of program: String) -> Refusal? {
    guard case .failed(let step, let errno) = self else { return nil }
    return switch step {
    case .order: Refusal(control: "order", stage: "the process that waits does not understand it", errno: errno)
    case .streams: Refusal(control: "job", stage: "give it its streams", errno: errno)
    case .directory: Refusal(control: "job", stage: "chdir \(Template.Path.job)", errno: errno)
    case .confine: Refusal(control: "job", stage: "confine the forked interpreter", errno: errno)
    case .execute: Refusal(control: "exec", stage: "execve \(program.prefix(1_024))", errno: errno)
    }
  }
}
