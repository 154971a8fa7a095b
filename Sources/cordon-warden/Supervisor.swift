import CLinux
import CellPool
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// One loop around epoll(7). A cell goes through the phases of `Cell.Phase`; every way out of `running` leads through
// `drain`, which kills the group as a whole, so a fork bomb dies as surely as a shell. The report is sent only when
// the kernel says that nobody is left in the group and the counters have been read.
//
// Cells are built before they are asked for (`PoolPlan` says how many of which shape) and taken down after they were
// reported; both are chores, done when nothing else is to do (`SupervisorChores`). An order that finds no cell waiting
// has one built on the spot, by the same code.
//
// The first cause to stop a cell stands. A time limit first asks the main process (SIGTERM), then after the grace
// kills. On v1 the kernel ends one process when memory runs out and signals an eventfd beforehand; the rest is
// killed once the counter has moved, because killing earlier would hide that fact.
//
// The control socket never blocks this loop: packets that do not fit wait in `outbox`. End of file on it means that
// the worker is gone; every cell is killed and the warden leaves. If the warden itself is killed, each init dies by
// its parent-death signal and the kernel ends its pid namespace; the empty groups are swept by the worker that
// spawned it, or by the next warden.

/// Carries out orders until the worker leaves.
final class Supervisor {
  var host: Host
  let readiness: Readiness
  let ownNamespaces: NamespaceIdentities
  /// Every cell that has not been removed, by serial.
  var cells: [UInt64: Cell] = [:]
  /// Those that have an order, by the worker's name.
  var ordered: [UInt64: Cell] = [:]
  /// Those that nobody has asked for yet, by shape.
  var pooled: [CellShape: [Cell]] = [:]
  /// Orders whose /output is still being made on a disk, by the serial of the cell to be.
  var disks: [UInt64: DiskOrder] = [:]
  /// Makers that have made theirs and zygotes that were ended, until the kernel has ended them.
  var unreaped: [ProcessHandle] = []
  var zygotes = Zygotes()
  var deadlines = Deadlines<UInt64, Instant>()
  var plan: PoolPlan<CellShape>
  var chores = Chores()
  /// Set once no order is taken any more; when to leave whatever is left.
  var leaveAt: Instant?
  private let control: PacketSocket
  private let termination: Descriptor
  private var outbox: [(bytes: [UInt8], descriptors: [Descriptor])] = []
  private var serial: UInt64 = 0
  private var workerIsGone = false

  /// Time a cell may take from its order to the job's first instruction.
  static let startPatienceMilliseconds: Int64 = 30_000
  /// How long after its order a cell's start may go unnoticed.
  static let startCheckMilliseconds: Int64 = 2
  /// As much as an order may ask for; beyond any sense a number would overflow when it is added to a moment.
  static let longestGraceMilliseconds: Int64 = 600_000
  /// Time a killed group may take to become empty before its outputs are given up.
  static let drainPatienceMilliseconds: Int64 = 30_000
  /// Time all cells may take to end when the warden leaves; a worker's cells are gone within 5 s of it.
  private static let leavePatienceMilliseconds: Int64 = 4_000

  init(host: Host, control: PacketSocket, pool: Int) throws {
    self.host = host
    self.control = control
    plan = PoolPlan(ceiling: pool)
    readiness = try Readiness()
    ownNamespaces = try NamespaceIdentities.read("self", proc: host.proc)
    for signal in [SIGINT, SIGHUP, SIGPIPE] { cordon_survive_signal(signal) }
    termination = Descriptor(owning: try SystemError.check(cordon_termination_descriptor(), "signalfd"))
    try control.descriptor.setNonBlocking()
    try readiness.add(control.descriptor, .read, token: Token.control.rawValue)
    try readiness.add(termination, .read, token: Token.termination.rawValue)
  }

  /// Proves with one empty cell that this host confines, says hello and serves. Returns the exit code.
  func run() -> Int32 {
    do throws(Refusal) {
      try Cell.rehearse(host: &host, own: ownNamespaces)
    } catch {
      host.cgroups.remove(patience: 1_000)
      warn("\(error.control): \(error.stage): errno \(error.errno); \(error.fix)")
      send(.cannot(error))
      return 1
    }
    send(
      .hello(
        WardenFacts(
          processID: getpid(), cgroup: host.cgroups.isUnified ? .unified : .hybrid, mode: host.grounds.mode,
          namespaces: host.cellNamespaces.names, filter: host.grounds.filter.instructions,
          networkFilter: host.grounds.networkFilter.instructions,
          landlock: host.grounds.landlock?.version ?? 0,
          firstUser: host.users.range.first, userCount: host.users.range.count, missing: host.missing,
          diskOutputs: host.disk.refusal)))
    while leaveAt.map({ !cells.isEmpty && Instant.now < $0 }) ?? true { turn() }
    host.cgroups.remove(patience: 1_000)
    return 0
  }

  func nextSerial() -> UInt64 {
    serial += 1
    return serial
  }

  // MARK: events

  private func turn() {
    let now = Instant.now
    reapEnded()
    for serial in deadlines.due(now) {
      guard let cell = cells[serial] else {
        diskIsLate(serial)
        continue
      }
      serveTimer(cell, now)
      rearm(cell)
    }
    doChore(now)
    do {
      for event in try readiness.wait(timeout: timeout()) { serve(event) }
    } catch {
      // Nothing can be supervised without it.
      warn("\(error)")
      exit(1)
    }
  }

  private func serve(_ event: Readiness.Event) {
    switch event.token {
    case Token.control.rawValue: serveControl(event.ready)
    case Token.termination.rawValue: leave()
    default:
      guard let (serial, source) = Token.cell(event.token) else { return }
      guard let cell = cells[serial] else {
        if let zygote = zygotes[serial] { return serve(zygote) }
        return serveDisk(serial)
      }
      serve(cell, source)
      rearm(cell)
    }
  }

  /// Notes when the cell wants to be looked at without an event. After everything that may have changed it.
  func rearm(_ cell: Cell) { deadlines.set(cell.serial, cells[cell.serial] === cell ? cell.wakeAt : nil) }

  /// Rounded up: waking a moment early would only spin until the deadline.
  private func timeout() -> Int32 {
    let moments = [deadlines.next, choreAt, leaveAt].compactMap { $0 }
    guard let next = moments.min() else { return -1 }
    return Int32(clamping: max(0, (next.microseconds - Instant.now.microseconds + 999) / 1_000))
  }

  private func serveControl(_ ready: Readiness.Interest) {
    if ready.contains(.write) { flush() }
    guard !ready.subtracting(.write).isEmpty, !workerIsGone else { return }
    do {
      guard let message = try control.receive(limit: Bounds.message) else { return workerLeft() }
      switch try WardenRequest(decoding: message.bytes) {
      case .run(let order): take(order, given: message.descriptors)
      case .stop(let stop): self.stop(stop)
      case .freeze(let cell, let isFrozen): freeze(cell, isFrozen)
      case .shutdown: leave()
      }
    } catch let error as SystemError where error.errno == EAGAIN {
      return
    } catch {
      // A worker that speaks nonsense is not the build we belong to; nothing it says later can be trusted.
      warn("control socket: \(error)")
      workerLeft()
    }
  }

  private func workerLeft() {
    if workerIsGone { return }
    workerIsGone = true
    readiness.remove(control.descriptor)
    outbox.removeAll()
    leave()
  }

  private func leave() {
    if leaveAt == nil { leaveAt = Instant.now.advanced(milliseconds: Supervisor.leavePatienceMilliseconds) }
    pooled = [:]
    endZygotes()
    chores.takeFoundation()?.end()
    for serial in Array(disks.keys) { giveUpDisk(serial, Refusal(control: "warden", stage: "the warden is leaving")) }
    for cell in Array(cells.values) {
      if cell.stop == nil { cell.stop = (.abandoned, 0) }
      drain(cell)
      rearm(cell)
    }
  }

  func send(_ reply: WardenReply, _ descriptors: [Descriptor] = []) {
    if workerIsGone { return }
    outbox.append((reply.encoded, descriptors))
    flush()
  }

  private func flush() {
    let wasFull = outbox.count > 1
    while let first = outbox.first {
      do {
        try control.send(first.bytes, descriptors: first.descriptors)
        outbox.removeFirst()
      } catch {
        if error.errno != EAGAIN { return workerLeft() }
        break
      }
    }
    let interest: Readiness.Interest = outbox.isEmpty ? .read : [.read, .write]
    if wasFull || !outbox.isEmpty { try? readiness.change(control.descriptor, interest, token: Token.control.rawValue) }
  }
}

/// What an event is about. Cells have numbers from 4 on: the serial, and two bits for the source.
enum Token: UInt64 {
  case control = 0
  case termination = 1

  enum Source: UInt64 {
    case socket, main, initProcess, memory
  }

  static func of(_ cell: Cell, _ source: Source) -> UInt64 { of(cell.serial, source) }
  static func of(_ serial: UInt64, _ source: Source) -> UInt64 { serial << 2 | source.rawValue }

  static func cell(_ token: UInt64) -> (serial: UInt64, Source)? {
    Source(rawValue: token & 3).map { (token >> 2, $0) }
  }
}
