import Glibc
import Kernel
import WardenProtocol

/// One cell, from its first process to the removal of its groups. State only; `Supervisor` acts.
final class Cell {
  enum Phase: Equatable {
    /// Its interpreter starts.
    case building
    /// Whole and unused.
    case waiting
    /// The order was sent.
    case starting
    case running
    /// The group was told to die; waiting until it is empty.
    case draining
    /// Reported; waiting for its turn to be taken down.
    case spent
    /// The cell's init was told to die; its groups are being removed.
    case removing
  }

  /// Names it among all cells this warden ever made.
  let serial: UInt64
  let shape: CellShape
  let group: any CellCgroup
  let initProcess: ProcessHandle
  /// The job's process, a child of the warden.
  let main: ProcessHandle
  let socket: PacketSocket
  let user: UInt32
  var phase: Phase
  /// Nil while nobody has asked for it.
  var order: CellOrder?
  /// The job's 0, 1, 2; let go of once they were sent.
  var given: [JobStream] = []
  var namespaces: [String] = []
  /// The cell's mount namespace, for what an order mounts; also keeps its end off the job's last moment.
  var mounts: Descriptor?
  var output: Descriptor?
  /// The space of /output before the job, where it lies on a disk.
  let emptyOutput: FilesystemSpace?
  var result: Descriptor?
  /// Why no job byte ran.
  var refusal: Refusal?
  /// When the process said that it is about to execute the job.
  var announcedAt: Instant?
  var status: CellEnd.Status = .unknown
  /// The job's process has ended, with `status`; it can do nothing any more.
  var isMainOver = false
  var isMainReaped = false
  /// No process but the init is left, and none can come.
  var isEmptied = false
  var isInitReaped = false
  var stop: (cause: StopCause, graceMilliseconds: Int64)?
  var startedAt: Instant?
  /// What is still to be said of the start.
  var start: CellStart?
  var endedAt: Instant?
  /// When the cell as a whole is killed.
  var killAt: Instant?
  /// When the wall-clock limit passes, or before that the supervisor's patience with the start ends.
  var deadline: Instant
  /// When to look whether the process has executed the job; nil once that is known.
  var startCheckAt: Instant?
  /// When to look again at something the kernel does not announce.
  var checkAt: Instant?
  /// Doubles with every check.
  var checkDelayMilliseconds: Int64 = 1
  var memoryRanOut = false
  /// /output was seen without any slack while the job ran; it may have given space back since.
  var outputRanOut = false
  /// When to look at the space of /output; nil when there is nothing more to learn.
  var spaceCheckAt: Instant?
  var drainingSince: Instant?

  init(
    serial: UInt64, shape: CellShape, group: any CellCgroup, initProcess: ProcessHandle, main: ProcessHandle,
    socket: PacketSocket, user: UInt32, areas: CellFilesystem.Areas, deadline: Instant
  ) {
    self.serial = serial
    self.shape = shape
    self.group = group
    self.initProcess = initProcess
    self.main = main
    self.socket = socket
    self.user = user
    self.deadline = deadline
    (output, result) = (areas.output, areas.result)
    emptyOutput = shape.outputs == .disk ? try? FilesystemSpace.of(areas.output) : nil
    phase = shape.runtime == .program ? .waiting : .building
  }

  /// What the worker calls it; nil while it is nobody's.
  var name: UInt64? { order?.cell }

  /// The earliest moment at which something has to be done without an event.
  var wakeAt: Instant? {
    switch phase {
    case .building: deadline
    case .starting: [deadline, checkAt, startCheckAt].compactMap { $0 }.min()
    case .waiting, .spent: nil
    case .running: [deadline, killAt, checkAt, spaceCheckAt].compactMap { $0 }.min()
    case .draining, .removing: checkAt
    }
  }

  /// Sets the next check, a little later every time.
  func checkLater(from now: Instant) {
    checkAt = now.advanced(milliseconds: checkDelayMilliseconds)
    checkDelayMilliseconds = min(checkDelayMilliseconds * 2, Cell.longestCheckMilliseconds)
  }

  /// Looks at the space of /output. No filesystem counts refusals, so a job that met its limit and then removed a file would
  /// look in the end as if it never had.
  func noteSpace(_ now: Instant) {
    if let output, let space = try? FilesystemSpace.of(output) { outputRanOut = isExhausted(space) }
    spaceCheckAt = outputRanOut ? nil : now.advanced(milliseconds: Cell.spaceCheckMilliseconds)
  }

  /// Why no job byte ran. A cell that runs out of memory before that is asked for with too little of it: its process
  /// decodes the order and copies its arguments under the limit, and whatever it said followed from it.
  var whyNotStarted: Refusal {
    if let counters = try? group.counters(), counters.oomKills > 0 {
      return Refusal(
        control: "order.limits", stage: "limits.memory: \(shape.memoryBytes) bytes do not hold this job's start")
    }
    return refusal ?? Refusal(control: "cell", stage: "stopped while it was starting")
  }

  /// The kernel's word on the job's process, once it has ended. What is left of it goes with the cell: to reap it takes
  /// longer than all counters of the report.
  func noteEnd() throws(SystemError) {
    guard !isMainOver, let end = try main.peek() else { return }
    isMainOver = true
    switch end {
    case .exited(let code): status = .exited(code)
    case .signaled(let signal): status = .signaled(signal)
    }
  }

  func reapMain() throws(SystemError) {
    if !isMainReaped { isMainReaped = try main.reap() != nil }
  }

  func reapInit() throws(SystemError) {
    if !isInitReaped { isInitReaped = try initProcess.reap() != nil }
  }

  /// Longest time that a full /output may go unseen before the job makes room again.
  private static let spaceCheckMilliseconds: Int64 = 100
  private static let longestCheckMilliseconds: Int64 = 64
}
