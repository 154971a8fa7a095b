import Glibc
import Jobs
import Kernel
import Synchronization
import WardenProtocol

/// A job to be run in a cell of its own.
public struct CellRequest: Sendable {
  /// Complete: nothing may be written to it after `run` was called. Nil: `/input` and `/job` are empty.
  public var stage: Stage?
  /// The program, an absolute path inside the cell, and its arguments.
  public var argv: [String]
  /// The whole environment of the job.
  public var environment: [(String, String)]
  public var limits: Limits
  /// Bytes the job reads from descriptor 0; nil is /dev/null.
  public var stdin: [UInt8]?
  /// What may have been started before the job came; nil: nothing.
  public var warm: WarmRuntime?
  /// What `/output` lies on. A warden that cannot have it on a disk refuses such a request.
  public var outputs: OutputStorage
  /// Whether the kernel runs programs, and maps libraries, that lie in `/tmp`.
  public var isTemporaryExecutable: Bool
  /// What listens in the cell; nil: nothing, and the job has no socket that leads anywhere. Its names are the stage's
  /// (`Stage.writeNames`).
  public var network: RequestedNetwork?

  public init(
    stage: Stage?, argv: [String], environment: [(String, String)], limits: Limits, stdin: [UInt8]? = nil,
    warm: WarmRuntime? = nil, outputs: OutputStorage = .memory, isTemporaryExecutable: Bool = true,
    network: RequestedNetwork? = nil
  ) {
    self.network = network
    self.isTemporaryExecutable = isTemporaryExecutable
    self.outputs = outputs
    self.warm = warm
    self.stage = stage
    self.argv = argv
    self.environment = environment
    self.limits = limits
    self.stdin = stdin
  }

  func order(_ cell: UInt64) -> CellOrder {
    CellOrder(
      cell: cell, stage: stage?.name ?? "", arguments: argv,
      environment: environment.map { .init(name: $0.0, value: $0.1) },
      limits: CellLimits(
        wallMilliseconds: limits.wallMilliseconds, graceMilliseconds: limits.graceMilliseconds,
        memoryBytes: limits.memoryBytes, cpuMillis: limits.cpuMillis, pids: limits.pids,
        outputBytes: limits.outputBytes, outputFiles: limits.outputFiles, temporaryBytes: limits.temporaryBytes,
        resultBytes: limits.resultBytes), runtime: runtime, outputs: outputs == .disk ? .disk : .memory,
      isTemporaryExecutable: isTemporaryExecutable,
      network: network.map { CellNetwork(listeners: $0.listeners.map { .init(address: $0.address, port: $0.port) }) })
  }

  /// An interpreter that has started can no longer be given other words on its command line or another locale; a job
  /// that asks for those is executed from the start.
  private var runtime: CellRuntime {
    guard let warm, argv.count > CellRuntime.pythonCommand.count,
      Array(argv.prefix(CellRuntime.pythonCommand.count)) == CellRuntime.pythonCommand,
      !environment.contains(where: { $0.0.hasPrefix("LC_") || ($0.0 == "LANG" && $0.1 != "C.UTF-8") })
    else { return .program }
    return switch warm {
    case .python(let imports): .python(imports: imports)
    // A copy of a common memory has the same random numbers as its siblings, which TLS could not do without.
    case .forkedPython(let imports): network == nil ? .forkedPython(imports: imports) : .python(imports: imports)
    }
  }
}

/// The listeners of one cell, and who takes them.
public struct RequestedNetwork: Sendable {
  /// An address of the cell's loopback interface, and a port there.
  public struct Listener: Hashable, Sendable {
    /// Within 127.0.0.0/8, in host order.
    public var address: UInt32
    public var port: UInt16

    public init(address: UInt32, port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  public var listeners: [Listener]
  /// Told once, before the job's first instruction; not where no cell comes of the request. The descriptors are in the order of
  /// `listeners`. On the sandbox's thread, which it must not hold up.
  public var opened: @Sendable ([Descriptor]) -> Void

  public init(listeners: [Listener], opened: @escaping @Sendable ([Descriptor]) -> Void) {
    self.listeners = listeners
    self.opened = opened
  }
}

/// An interpreter that waits, started and with modules imported, for the script of one job. Every cell is fresh and used
/// once all the same.
public enum WarmRuntime: Sendable, Equatable {
  /// `imports` are in `sys.modules` from the start.
  case python(imports: [String])
  /// The same, forked from an interpreter that did so for all such cells and shares its memory with them; `ops/docs` says
  /// what that does to the randomisation of addresses. A warden without the interpreter's library refuses such requests.
  case forkedPython(imports: [String])
}

/// Some of what the job wrote, in the order of writing within one stream; only what the stream's cap keeps.
public struct OutputChunk: Sendable, Equatable {
  /// `stdout` or `stderr`.
  public var stream: String
  public var bytes: [UInt8]

  public init(stream: String, bytes: [UInt8]) {
    self.stream = stream
    self.bytes = bytes
  }
}

/// One job that runs, or has run.
public final class RunningCell: Sendable {
  /// What the job writes, as it writes it. Ends when the cell is over. For one consumer.
  public let output: AsyncStream<OutputChunk>
  /// The job's uid on this host; no other live cell of this host has it.
  public let uid: UInt32

  private let sandbox: Sandbox
  private let identifier: UInt64
  /// The cause of the first `stop`, 0 before it. Kept here, because calls may overtake each other on their way to
  /// the sandbox.
  private let cause = Atomic<UInt8>(0)

  init(sandbox: Sandbox, identifier: UInt64, uid: UInt32, output: AsyncStream<OutputChunk>) {
    self.sandbox = sandbox
    self.identifier = identifier
    self.uid = uid
    self.output = output
  }

  deinit {
    // Where it ends up anyway, without another thread that has to be woken for it.
    Task(executorPreference: sandbox.executor) { [sandbox, identifier] in await sandbox.forget(identifier) }
  }

  /// Ends the job: SIGTERM, then after the grace of its limits the whole cell is killed; `abandoned` kills at once.
  /// The first reason given stands; a later call can only make it sooner. Harmless when the cell is over.
  public func stop(_ reason: StopReason) {
    let (isFirst, original) = cause.compareExchange(
      expected: 0, desired: reason.cause.rawValue, ordering: .sequentiallyConsistent)
    let cause = isFirst ? reason.cause : StopCause(rawValue: original) ?? reason.cause
    Task { [sandbox, identifier] in await sandbox.stop(identifier, cause, atOnce: reason == .abandoned) }
  }

  /// Stops every process of the cell where it is, or lets all go on. Time passes: its limits hold. Harmless when it is over.
  public func freeze(_ isFrozen: Bool) async {
    await sandbox.freeze(identifier, isFrozen)
  }

  /// What the job says of its progress at this moment; nil when it says nothing, nothing valid, or is over.
  public func progress() async -> JSONValue? {
    await sandbox.progress(of: identifier)
  }

  /// Waits until the cell is over and empty, and says how it went. Throws `SandboxError`: stage `warden` when the
  /// warden died meanwhile, `cell` when the cell could not be emptied; then nothing is known of the job's end, and
  /// its outputs must not be used.
  public func report() async throws(SandboxError) -> CellReport {
    try await sandbox.report(of: identifier)
  }
}

/// What is known of a cell that is over.
public struct CellReport: Sendable {
  public var facts: ExitFacts
  public var stdout: StreamFacts
  public var stderr: StreamFacts
  /// From the job's start to the end of its main process, by the monotonic clock.
  public var wallSeconds: Double
  public var cpuSeconds: Double
  /// Nil where the kernel keeps no peak.
  public var memoryPeakBytes: Int64?
  public var isolation: Isolation
  /// The root of `/output`, for `Outputs`.
  public var output: Descriptor
  /// The root of `/result`, for `Outputs`.
  public var result: Descriptor

  /// Says that nothing is wanted of the outputs any more. The last descriptor of a filesystem on a disk would otherwise
  /// keep whoever closes it until everything that the job left unwritten has been written, for nobody.
  public func discardOutputs() {
    if isolation.outputs == .disk { try? output.abandonFilesystem() }
  }
}

enum StreamName: String, CaseIterable {
  case stdout, stderr
}

/// A pipe from the job and what came through it. Nil once the pipe is closed.
struct Stream {
  var pipe: Descriptor?
  var capture: StreamCapture

  var facts: StreamFacts { StreamFacts(bytes: capture.bytes, truncated: capture.bytes > capture.cap) }
}

/// What the sandbox knows of a cell from the order to its end.
struct Cell {
  /// Kept, because its lock tells other workers that it is in use.
  let stage: Stage?
  let limits: Limits
  let outputs: OutputStorage
  let network: RequestedNetwork?
  /// When the warden, which keeps the wall clock, must have ended the cell.
  let overdue: ContinuousClock.Instant
  let chunks: AsyncStream<OutputChunk>.Continuation
  var stdout: Stream
  var stderr: Stream
  /// Set until the warden has answered the order.
  var starting: CheckedContinuation<Result<CellStart, SandboxError>, Never>?
  var start: CellStart?
  /// The root of `/result` while the job runs.
  var result: Descriptor?
  var isForgotten = false

  /// When there is something to do for it without an event.
  var due: ContinuousClock.Instant {
    [stdout.capture.due, stderr.capture.due].compactMap { $0 }.reduce(overdue) { min($0, $1) }
  }

  subscript(_ name: StreamName) -> Stream {
    get { name == .stdout ? stdout : stderr }
    _modify {
      if name == .stdout { yield &stdout } else { yield &stderr }
    }
  }

  /// The warden's last word on the cell as a report, or why there is none.
  func report(_ end: CellEnd, _ descriptors: [Descriptor], facts: SandboxFacts) -> Result<CellReport, SandboxError> {
    guard let start else {
      return .failure(SandboxError(stage: "warden", message: "cordon-warden ended a cell that it never started"))
    }
    guard end.emptied, descriptors.count == 2 else {
      return .failure(
        SandboxError(
          stage: "cell", message: "processes of the cell survived its end; its outputs are not used",
          fix: "look for processes of uid \(start.user) in uninterruptible sleep"))
    }
    return .success(
      CellReport(
        facts: ExitFacts(
          status: .init(end.status), oomKills: end.oomKills, pidsLimitHits: end.pidsLimitHits,
          outputExhausted: end.outputExhausted, stopped: end.stop.map(StopReason.init)),
        stdout: stdout.facts, stderr: stderr.facts, wallSeconds: Double(end.wallMicroseconds) / 1e6,
        cpuSeconds: Double(end.cpuMicroseconds) / 1e6,
        memoryPeakBytes: end.memoryPeakBytes.map { Int64(clamping: $0) },
        isolation: Isolation(
          cgroup: facts.cgroup, namespaces: start.namespaces,
          filter: network == nil ? facts.filter : facts.networkFilter, uid: start.user,
          outputs: outputs),
        output: descriptors[0], result: descriptors[1]))
  }
}

extension ExitFacts.Status {
  init(_ status: CellEnd.Status) {
    switch status {
    case .exited(let code): self = .exited(code)
    case .signaled(let signal): self = .signaled(signal)
    case .unknown: self = .unknown
    }
  }
}

extension StopReason {
  init(_ cause: StopCause) {
    switch cause {
    case .wallClock: self = .wallClock
    case .cancelled: self = .cancelled
    case .abandoned: self = .abandoned
    }
  }

  var cause: StopCause {
    switch self {
    case .wallClock: .wallClock
    case .cancelled: .cancelled
    case .abandoned: .abandoned
    }
  }
}
