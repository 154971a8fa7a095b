// Theory of operation
//
// The worker spawns cordon-warden with one end of an AF_UNIX SOCK_SEQPACKET pair and both sides exchange the
// messages below, one packet each. The warden speaks first, once: `hello`, or `cannot` and then it exits. Each
// `run` is answered by exactly one terminal message for its cell: `refused` (no job byte ran), or `finished`, before
// which `started` was said unless `finished` says it along. End of file on the socket is the worker's death; the warden then kills every cell and leaves.
//
// Descriptors travel beside a packet (SCM_RIGHTS) in the order each message states. This target holds only the
// values and their bytes; sockets are the business of `Kernel`.

/// What the worker asks of the warden.
public enum WardenRequest: Equatable, Sendable {
  /// Descriptors: stdin, stdout, stderr of the job, in this order.
  case run(CellOrder)
  /// No descriptors. A cell that is unknown, or has ended meanwhile, is ignored.
  case stop(CellStop)
  /// No descriptors. Every process of the cell stands still, or goes on. A cell that is unknown, or has ended, is ignored.
  case freeze(cell: UInt64, Bool)
  /// No descriptors. Kill every cell, remove what was made, exit 0.
  case shutdown
}

/// What the warden says to the worker.
public enum WardenReply: Equatable, Sendable {
  /// No descriptors. The host can confine; `run` may be sent.
  case hello(WardenFacts)
  /// No descriptors. The host cannot confine; the warden exits with code 1.
  case cannot(Refusal)
  /// Descriptors: the cell's listeners, in the order's order. The job has not begun.
  case listening(cell: UInt64)
  /// Descriptor: the root directory of `/result`, for a look at what the job says of its progress. The job's first
  /// instruction is about to run, or has run. Not said of a job that has ended by then: `finished` says it along.
  case started(CellStart)
  /// No descriptors. The cell could not be made as ordered; no job byte ran. Ends the cell.
  case refused(cell: UInt64, Refusal)
  /// Descriptors when `emptied`: the root directory of `/output`, then that of `/result`; else none. Ends the cell.
  case finished(CellEnd)
}

/// One cell, to be made, used once and destroyed.
public struct CellOrder: Equatable, Sendable {
  /// Chosen by the worker; unique among all orders of this warden's life.
  public var cell: UInt64
  /// Name of a directory beneath the staging directory that holds the directories `input` and `job`; empty: nothing is
  /// staged, and both are empty.
  public var stage: String
  /// Absolute path of the program inside the cell, then its arguments.
  public var arguments: [String]
  /// The whole environment of the job.
  public var environment: [Variable]
  public var limits: CellLimits
  public var runtime: CellRuntime
  public var outputs: CellOutputs
  /// Whether the kernel runs programs, and maps libraries, that lie in `/tmp`.
  public var isTemporaryExecutable: Bool
  /// Nil: no socket leads anywhere.
  public var network: CellNetwork?

  /// What a cell must have been built for to take this order.
  public var shape: CellShape {
    CellShape(
      limits: limits, runtime: runtime, outputs: outputs, isTemporaryExecutable: isTemporaryExecutable,
      isNetworked: network != nil)
  }

  public struct Variable: Equatable, Sendable {
    public var name: String
    public var value: String

    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  public init(
    cell: UInt64, stage: String, arguments: [String], environment: [Variable] = [], limits: CellLimits = .init(),
    runtime: CellRuntime = .program, outputs: CellOutputs = .memory, isTemporaryExecutable: Bool = true,
    network: CellNetwork? = nil
  ) {
    self.cell = cell
    self.isTemporaryExecutable = isTemporaryExecutable
    self.network = network
    self.runtime = runtime
    self.outputs = outputs
    self.stage = stage
    self.arguments = arguments
    self.environment = environment
    self.limits = limits
  }
}

/// What the kernel is told to enforce for one cell. Units are in the names.
public struct CellLimits: Equatable, Sendable {
  public var wallMilliseconds: Int64
  public var graceMilliseconds: Int64
  public var memoryBytes: Int64
  /// Thousandths of one processor.
  public var cpuMillis: Int64
  public var pids: Int64
  public var outputBytes: Int64
  public var outputFiles: Int64
  public var temporaryBytes: Int64
  public var resultBytes: Int64

  public init(
    wallMilliseconds: Int64 = 300_000, graceMilliseconds: Int64 = 2_000, memoryBytes: Int64 = 256 << 20,
    cpuMillis: Int64 = 1_000, pids: Int64 = 64, outputBytes: Int64 = 64 << 20, outputFiles: Int64 = 1_024,
    temporaryBytes: Int64 = 16 << 20, resultBytes: Int64 = 256 << 10
  ) {
    self.wallMilliseconds = wallMilliseconds
    self.graceMilliseconds = graceMilliseconds
    self.memoryBytes = memoryBytes
    self.cpuMillis = cpuMillis
    self.pids = pids
    self.outputBytes = outputBytes
    self.outputFiles = outputFiles
    self.temporaryBytes = temporaryBytes
    self.resultBytes = resultBytes
  }
}

/// Why the supervisor ended a cell. The first cause given to a cell stands.
public enum StopCause: UInt8, Equatable, Sendable, CaseIterable {
  /// The wall-clock limit passed; the warden's own timer sets it.
  case wallClock = 1
  case cancelled = 2
  case abandoned = 3
}

/// SIGTERM to the main process, and after the grace the end of the whole cell. Grace 0 kills at once.
public struct CellStop: Equatable, Sendable {
  public var cell: UInt64
  public var cause: StopCause
  public var graceMilliseconds: Int64

  public init(cell: UInt64, cause: StopCause, graceMilliseconds: Int64) {
    self.cell = cell
    self.cause = cause
    self.graceMilliseconds = graceMilliseconds
  }
}

/// What the warden found out about the host and will enforce for every cell.
public struct WardenFacts: Equatable, Sendable {
  public enum CgroupKind: UInt8, Equatable, Sendable, CaseIterable {
    /// One unified hierarchy carries all limits.
    case unified = 1
    /// Limits on v1 hierarchies, a v2 group as the handle that kills.
    case hybrid = 2
  }

  public enum Mode: UInt8, Equatable, Sendable, CaseIterable {
    /// The warden is root; each live cell has a host uid of its own.
    case root = 1
    /// The warden is an ordinary user; each cell has a user namespace that maps one uid.
    case userNamespace = 2
  }

  public var processID: Int32
  public var cgroup: CgroupKind
  public var mode: Mode
  /// Namespaces every cell gets, by the kernel's names under `/proc/PID/ns`.
  public var namespaces: [String]
  /// The seccomp program every job runs under: the kernel's array of `struct sock_filter`.
  public var filter: [UInt8]
  /// The same, of jobs that have a network.
  public var networkFilter: [UInt8]
  /// Version of the kernel's Landlock that every job is under; 0 where there is none.
  public var landlock: Int32
  /// Host uids the warden gives to jobs.
  public var firstUser: UInt32
  public var userCount: UInt32
  /// Controls this host does not give; a worker serves only when its policy waives each of them.
  public var missing: [Refusal]
  /// Why no cell's `/output` can lie on a disk here; nil where it can. Such orders are refused with it.
  public var diskOutputs: Refusal?

  public init(
    processID: Int32, cgroup: CgroupKind, mode: Mode, namespaces: [String], filter: [UInt8],
    networkFilter: [UInt8] = [], landlock: Int32 = 0, firstUser: UInt32, userCount: UInt32, missing: [Refusal] = [],
    diskOutputs: Refusal? = nil
  ) {
    self.processID = processID
    self.cgroup = cgroup
    self.mode = mode
    self.namespaces = namespaces
    self.filter = filter
    self.networkFilter = networkFilter
    self.landlock = landlock
    self.firstUser = firstUser
    self.userCount = userCount
    self.missing = missing
    self.diskOutputs = diskOutputs
  }
}

/// A control that could not be enforced, or an order that could not be carried out.
public struct Refusal: Error, Equatable, Sendable {
  /// The control or part of the order concerned: `cgroup.memory`, `namespaces`, `order.arguments`, `exec`, ….
  public var control: String
  /// The call or step that failed, with what it was applied to.
  public var stage: String
  /// 0 where no system call failed.
  public var errno: Int32
  /// What an operator can do about it, one line; empty where nothing can be said.
  public var fix: String

  public init(control: String, stage: String, errno: Int32 = 0, fix: String = "") {
    self.control = control
    self.stage = stage
    self.errno = errno
    self.fix = fix
  }
}

/// A cell whose job has been started.
public struct CellStart: Equatable, Sendable {
  public var cell: UInt64
  /// Host uid of the job.
  public var user: UInt32
  /// Host pid of the cell's init; it is alive at least until `finished`.
  public var initProcessID: Int32
  /// Namespaces verified to differ from the warden's, by the kernel's names.
  public var namespaces: [String]

  public init(cell: UInt64, user: UInt32, initProcessID: Int32, namespaces: [String]) {
    self.cell = cell
    self.user = user
    self.initProcessID = initProcessID
    self.namespaces = namespaces
  }
}

/// What the kernel says of a cell that is over.
public struct CellEnd: Equatable, Sendable {
  public enum Status: Equatable, Sendable {
    case exited(Int32)
    case signaled(Int32)
    /// The cell was killed as a whole before its init could report.
    case unknown
  }

  public var cell: UInt64
  /// Where `started` was not said.
  public var start: CellStart?
  public var status: Status
  public var stop: StopCause?
  public var oomKills: UInt64
  /// How often a fork was refused by the process limit.
  public var pidsLimitHits: UInt64
  /// `/output` held more than its limits, in blocks or in inodes, at its end or at one of the looks the warden took
  /// every 100 ms while the job ran: of the little that the warden gives beyond them, some was taken.
  public var outputExhausted: Bool
  /// From the job's start to the end of its main process, by the monotonic clock.
  public var wallMicroseconds: UInt64
  public var cpuMicroseconds: UInt64
  /// Nil where the kernel keeps no peak.
  public var memoryPeakBytes: UInt64?
  /// True once no process is left in the cell's cgroup. False when that did not come about within the warden's
  /// patience: then nothing of the cell's output may be used, and no descriptor travels.
  public var emptied: Bool

  public init(
    cell: UInt64, start: CellStart? = nil, status: Status, stop: StopCause? = nil, oomKills: UInt64 = 0,
    pidsLimitHits: UInt64 = 0,
    outputExhausted: Bool = false, wallMicroseconds: UInt64 = 0, cpuMicroseconds: UInt64 = 0,
    memoryPeakBytes: UInt64? = nil, emptied: Bool = true
  ) {
    self.cell = cell
    self.start = start
    self.status = status
    self.stop = stop
    self.oomKills = oomKills
    self.pidsLimitHits = pidsLimitHits
    self.outputExhausted = outputExhausted
    self.wallMicroseconds = wallMicroseconds
    self.cpuMicroseconds = cpuMicroseconds
    self.memoryPeakBytes = memoryPeakBytes
    self.emptied = emptied
  }
}
