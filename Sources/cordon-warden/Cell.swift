import CLinux
import Glibc
import Kernel
import WardenProtocol

/// Microseconds of the monotonic clock.
struct Instant: Comparable {
  var microseconds: Int64

  static var now: Instant {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
  }

  static func < (left: Instant, right: Instant) -> Bool { left.microseconds < right.microseconds }

  func advanced(milliseconds: Int64) -> Instant { Instant(microseconds: microseconds + milliseconds * 1_000) }
}

/// A cell that waits for an order: processes and groups exist, nothing of a job does.
final class PreparedCell {
  let group: any CellCgroup
  let initProcess: ProcessHandle
  let socket: PacketSocket
  let user: UInt32

  /// Makes groups with `limits` and clones the cell's init into them.
  init(name: String, limits: CgroupLimits, user: UInt32, host: Host) throws(Refusal) {
    let group = try requiring("cgroup") { () throws(SystemError) in try host.cgroups.makeCell(name) }
    self.group = group
    self.user = user
    do throws(Refusal) {
      try requiring("cgroup.limits") { () throws(SystemError) in try group.apply(limits) }
      let (mine, theirs) = try requiring("cell") { () throws(SystemError) in try PacketSocket.pair() }
      let cell = CellInit(
        mode: host.mode, user: user, group: host.mode.group(of: user), initUser: host.users.initUser,
        filter: host.filter)
      let null = host.null.raw
      initProcess = try requiring(
        "namespaces", fix: "allow namespaces: sysctl user.max_*_namespaces; CAP_SYS_ADMIN in a container"
      ) { () throws(SystemError) in
        try ProcessHandle.clone(namespaces: .cell, cgroup: group.handle) {
          cell.run(socket: theirs.descriptor.raw, null: null)
        }
      }
      socket = mine
    } catch {
      _ = try? group.remove()
      throw error
    }
    do throws(SystemError) { try socket.descriptor.setNonBlocking() } catch { throw Refusal("cell", error) }
  }

  /// Puts init under every limit and checks that the kernel really gave it the namespaces. After `prepared`.
  func confine(host: Host, own: NamespaceIdentities) throws(Refusal) -> [String] {
    try requiring("cgroup.attach") { () throws(SystemError) in try group.attach(initProcess.processID) }
    let identities = try requiring("namespaces") { () throws(SystemError) in
      try NamespaceIdentities.read("\(initProcess.processID)", proc: host.proc)
    }
    let expected = host.cellNamespaces
    let differing = identities.differing(from: host.hostNamespaces, among: expected)
    for name in expected.names where !differing.contains(name) {
      throw Refusal(control: "namespaces.\(name)", stage: "the cell shares it with the host")
    }
    let fromWarden = identities.differing(from: own, among: .cell)
    for name in Namespaces.cell.names where !fromWarden.contains(name) {
      throw Refusal(control: "namespaces.\(name)", stage: "the cell shares it with the warden")
    }
    return differing
  }
}

/// One ordered cell, from its order to the removal of its groups. State only; `Supervisor` acts.
final class Cell {
  enum Phase: Equatable {
    /// Init is building; no order was sent.
    case preparing
    /// The order was sent.
    case starting
    case running
    /// The groups were told to die; waiting until they are empty.
    case draining
    /// Reported; the groups are being removed.
    case removing
  }

  let order: CellOrder
  let prepared: PreparedCell
  /// The job's 0, 1, 2; let go of once they were sent.
  var standard: [Descriptor]
  var phase = Phase.preparing
  var namespaces: [String] = []
  var main: ProcessHandle?
  var output: Descriptor?
  var result: Descriptor?
  /// Why no job byte ran.
  var refusal: Refusal?
  var status: CellEnd.Status = .unknown
  var stop: (cause: StopCause, graceMilliseconds: Int64)?
  var startedAt: Instant?
  var endedAt: Instant?
  /// When the cell as a whole is killed.
  var killAt: Instant?
  /// When the wall-clock limit passes, or while preparing and starting the supervisor's patience ends.
  var deadline: Instant
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
  var initReaped = false

  init(order: CellOrder, prepared: PreparedCell, standard: [Descriptor], deadline: Instant) {
    self.order = order
    self.prepared = prepared
    self.standard = standard
    self.deadline = deadline
  }

  /// The earliest moment at which something has to be done without an event.
  var wakeAt: Instant? {
    switch phase {
    case .preparing, .starting: [deadline, checkAt].compactMap { $0 }.min()
    case .running: [deadline, killAt, checkAt, spaceCheckAt].compactMap { $0 }.min()
    case .draining, .removing: checkAt
    }
  }

  /// Sets the next check, a little later every time.
  func checkLater(from now: Instant) {
    checkAt = now.advanced(milliseconds: checkDelayMilliseconds)
    checkDelayMilliseconds = min(checkDelayMilliseconds * 2, Cell.longestCheckMilliseconds)
  }

  /// Looks at the space of /output. tmpfs counts no refusals, so a job that met its limit and then removed a file would
  /// look in the end as if it never had.
  func noteSpace(_ now: Instant) {
    if let output, let space = try? FilesystemSpace.of(output) { outputRanOut = space.isExhausted }
    spaceCheckAt = outputRanOut ? nil : now.advanced(milliseconds: Cell.spaceCheckMilliseconds)
  }

  /// Why no job byte ran. A cell that runs out of memory before that is asked for with too little of it: init decodes
  /// the order and copies its arguments under the limit that the order names, and whatever init said followed from it.
  var whyNotStarted: Refusal {
    if let counters = try? prepared.group.counters(), counters.oomKills > 0 {
      let limit = order.limits.memoryBytes
      return Refusal(control: "order.limits", stage: "limits.memory: \(limit) bytes do not hold this job's start")
    }
    return refusal ?? Refusal(control: "cell", stage: "stopped while it was starting")
  }

  /// Longest time that a full /output may go unseen before the job makes room again.
  private static let spaceCheckMilliseconds: Int64 = 100
  private static let longestCheckMilliseconds: Int64 = 64
}
