/// How an attempt ended. Every case rests on a fact the kernel or the database stated, never on what the job
/// printed: `137` from a shell is `failed(code: 137)`; only the cgroup's counter makes `out_of_memory`.
public enum Outcome: Equatable, Hashable, Sendable {
  /// The main process exited with code 0.
  case succeeded
  /// The main process exited with another code.
  case failed(code: Int32)
  /// A signal ended the main process, and it was not the supervisor that sent it for one of the reasons below.
  case signaled(signal: Int32)
  /// The wall-clock limit passed, by the supervisor's monotonic clock.
  case timedOut
  /// The cgroup's `oom_kill` counter moved.
  case outOfMemory
  /// The job filled its output area (bytes or files).
  case outputLimit
  /// The job was cancelled while it ran, or before it was claimed.
  case cancelled
  /// The worker that held the lease is gone; nobody knows how the job ended.
  case lost
  /// The worker could not or would not run it as specified; no job byte ran.
  case refused
  /// The job had not started when its time to start was over; no job byte ran.
  case expired

  /// The word the record, the database and the command line use.
  public var name: String {
    switch self {
    case .succeeded: "succeeded"
    case .failed: "failed"
    case .signaled: "signaled"
    case .timedOut: "timed_out"
    case .outOfMemory: "out_of_memory"
    case .outputLimit: "output_limit"
    case .cancelled: "cancelled"
    case .lost: "lost"
    case .refused: "refused"
    case .expired: "expired"
    }
  }

  public var exitCode: Int32? {
    switch self {
    case .succeeded: 0
    case .failed(let code): code
    default: nil
    }
  }

  public var signal: Int32? {
    if case .signaled(let signal) = self { signal } else { nil }
  }
}

/// Why the supervisor itself ended a cell. The first reason given stands: a job that is cancelled during the
/// grace after its time limit has still timed out.
public enum StopReason: String, Sendable, Equatable {
  case wallClock = "wall_clock"
  case cancelled
  /// The lease is no longer ours, or the worker is told to leave at once; another attempt will follow.
  case abandoned
}

/// What the kernel said about one finished cell.
public struct ExitFacts: Equatable, Sendable {
  public enum Status: Equatable, Sendable {
    case exited(Int32)
    case signaled(Int32)
    /// The cell was killed as a whole before its init could report the main process's status.
    case unknown
  }

  public var status: Status
  /// `oom_kill` of the cell's memory cgroup.
  public var oomKills: UInt64
  /// `max` of the cell's `pids.events`: how often a fork was refused.
  public var pidsLimitHits: UInt64
  /// True when the output area had no free block or no free inode left at its end or at one of the warden's looks,
  /// every 100 ms while the job ran (space that was exhausted and given back between two looks is not seen), or when
  /// what it held was more than can be taken over.
  public var outputExhausted: Bool
  public var stopped: StopReason?

  public init(
    status: Status, oomKills: UInt64 = 0, pidsLimitHits: UInt64 = 0, outputExhausted: Bool = false,
    stopped: StopReason? = nil
  ) {
    self.status = status
    self.oomKills = oomKills
    self.pidsLimitHits = pidsLimitHits
    self.outputExhausted = outputExhausted
    self.stopped = stopped
  }

  /// The outcome these facts amount to.
  ///
  /// The order is that of certainty about the cause: what the supervisor did on purpose, then what the kernel
  /// did because of a limit, then how the process ended by itself. A full output area outranks exit code 0,
  /// because a program that ignores ENOSPC leaves a truncated file that looks like a result.
  public var outcome: Outcome {
    switch stopped {
    case .cancelled: return .cancelled
    case .abandoned: return .lost
    case .wallClock: return .timedOut
    case nil: break
    }
    if oomKills > 0 { return .outOfMemory }
    if outputExhausted { return .outputLimit }
    switch status {
    case .exited(0): return .succeeded
    case .exited(let code): return .failed(code: code)
    case .signaled(let signal): return .signaled(signal: signal)
    case .unknown: return .lost
    }
  }

  /// Limits that were touched without deciding the outcome: `pids_limit`, and `output_limit` beside another cause.
  public var notes: [String] {
    var notes: [String] = []
    if pidsLimitHits > 0 { notes.append("pids_limit") }
    if outputExhausted, outcome != .outputLimit { notes.append("output_limit") }
    return notes
  }
}
