import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// One loop around poll(2). A cell goes through the phases of `Cell.Phase`; every way out of `running` leads through
// `drain`, which kills the group as a whole, so a fork bomb dies as surely as a shell. The report is sent only when
// the kernel says that nobody is left in the group and the counters have been read; groups are removed after that.
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
  private var host: Host
  private let control: PacketSocket
  private let termination: Descriptor
  private let ownNamespaces: NamespaceIdentities
  private var cells: [UInt64: Cell] = [:]
  private var outbox: [(bytes: [UInt8], descriptors: [Descriptor])] = []
  private var serial = 0
  /// Set once no order is taken any more; when to leave whatever is left.
  private var leaveAt: Instant?
  private var workerIsGone = false

  /// Time a cell may take from its order to the job's first instruction.
  static let startPatienceMilliseconds: Int64 = 30_000
  /// Time a killed group may take to become empty before its outputs are given up.
  private static let drainPatienceMilliseconds: Int64 = 30_000
  /// Time all cells may take to end when the warden leaves; a worker's cells are gone within 5 s of it.
  private static let leavePatienceMilliseconds: Int64 = 4_000

  init(host: Host, control: PacketSocket) throws {
    self.host = host
    self.control = control
    ownNamespaces = try NamespaceIdentities.read("self", proc: host.proc)
    for signal in [SIGINT, SIGHUP, SIGPIPE] { cordon_ignore_signal(signal) }
    termination = Descriptor(owning: try SystemError.check(cordon_termination_descriptor(), "signalfd"))
    try control.descriptor.setNonBlocking()
  }

  /// Proves with one empty cell that this host confines, says hello and serves. Returns the exit code.
  func run() -> Int32 {
    do throws(Refusal) {
      try PreparedCell.rehearse(name: nextName(), host: &host, own: ownNamespaces)
    } catch {
      host.cgroups.remove(patience: 1_000)
      warn("\(error.control): \(error.stage): errno \(error.errno); \(error.fix)")
      send(.cannot(error))
      return 1
    }
    send(
      .hello(
        WardenFacts(
          processID: getpid(), cgroup: host.cgroups.isUnified ? .unified : .hybrid, mode: host.mode,
          namespaces: host.cellNamespaces.names, filter: host.filter.instructions,
          firstUser: host.users.range.first, userCount: host.users.range.count, missing: host.missing)))
    while true {
      let now = Instant.now
      serveTimers(now)
      if let leaveAt, cells.isEmpty || leaveAt < now { break }
      serveDescriptors()
    }
    host.cgroups.remove(patience: 1_000)
    return 0
  }

  private func nextName() -> String {
    serial += 1
    return "cell-\(serial)"
  }

  // MARK: events

  private func serveDescriptors() {
    var polled = [
      pollfd(
        fd: control.descriptor.raw, events: Int16(POLLIN) | (outbox.isEmpty ? 0 : Int16(POLLOUT)), revents: 0),
      pollfd(fd: termination.raw, events: Int16(POLLIN), revents: 0),
    ]
    if workerIsGone { polled[0].fd = -1 }
    var owners: [(cell: Cell, isMemory: Bool)] = []
    for cell in cells.values {
      guard [.preparing, .starting, .running].contains(cell.phase) else { continue }
      polled.append(pollfd(fd: cell.prepared.socket.descriptor.raw, events: Int16(POLLIN), revents: 0))
      owners.append((cell, false))
      if let event = cell.prepared.group.outOfMemory, !cell.memoryRanOut {
        polled.append(pollfd(fd: event.raw, events: Int16(POLLIN), revents: 0))
        owners.append((cell, true))
      }
    }
    guard poll(&polled, nfds_t(polled.count), pollTimeout()) > 0 else { return }
    if polled[0].revents != 0 { serveControl(polled[0].revents) }
    if polled[1].revents != 0 { leave() }
    for (entry, owner) in zip(polled.dropFirst(2), owners) where entry.revents != 0 {
      if owner.isMemory { noteMemory(owner.cell) } else { serveCell(owner.cell) }
    }
  }

  /// Rounded up: waking a moment early would only spin until the deadline.
  private func pollTimeout() -> Int32 {
    let wakes = cells.values.compactMap(\.wakeAt) + [leaveAt].compactMap { $0 }
    guard let next = wakes.min() else { return -1 }
    return Int32(clamping: max(0, (next.microseconds - Instant.now.microseconds + 999) / 1_000))
  }

  private func serveControl(_ events: Int16) {
    if events & Int16(POLLOUT) != 0 { flush() }
    guard events & ~Int16(POLLOUT) != 0 else { return }
    do {
      guard let message = try control.receive(limit: Bounds.message) else { return workerLeft() }
      switch try WardenRequest(decoding: message.bytes) {
      case .run(let order): take(order, standard: message.descriptors)
      case .stop(let stop): self.stop(stop)
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
    workerIsGone = true
    outbox.removeAll()
    leave()
  }

  private func leave() {
    if leaveAt == nil { leaveAt = Instant.now.advanced(milliseconds: Supervisor.leavePatienceMilliseconds) }
    for cell in cells.values where cell.phase != .removing {
      if cell.stop == nil { cell.stop = (.abandoned, 0) }
      drain(cell)
    }
  }

  private func send(_ reply: WardenReply, _ descriptors: [Descriptor] = []) {
    if workerIsGone { return }
    outbox.append((reply.encoded, descriptors))
    flush()
  }

  private func flush() {
    while let first = outbox.first {
      do {
        try control.send(first.bytes, descriptors: first.descriptors)
        outbox.removeFirst()
      } catch {
        if error.errno != EAGAIN { workerLeft() }
        return
      }
    }
  }

  // MARK: orders

  private func take(_ order: CellOrder, standard: [Descriptor]) {
    do throws(Refusal) {
      guard leaveAt == nil else { throw Refusal(control: "warden", stage: "the warden is leaving") }
      guard cells[order.cell] == nil else { throw Refusal(control: "order.cell", stage: "this cell exists") }
      if let problem = order.problem { throw problem }
      guard standard.count == 3, standard.allSatisfy(\.isJobStream) else {
        throw Refusal(control: "order.descriptors", stage: "stdin, stdout, stderr: pipes, sockets, files, /dev/null")
      }
      guard let user = host.users.take() else {
        throw Refusal(control: "uids", stage: "every uid of this warden is a live cell's", fix: "widen --uids")
      }
      do throws(Refusal) {
        if host.mode == .root { for descriptor in standard { descriptor.giveAway(to: user) } }
        let limits = CgroupLimits(
          memoryBytes: order.limits.memoryBytes, pids: order.limits.pids + 1, cpuMillis: order.limits.cpuMillis)
        let prepared = try PreparedCell(name: nextName(), limits: limits, user: user, host: host)
        cells[order.cell] = Cell(
          order: order, prepared: prepared, standard: standard,
          deadline: Instant.now.advanced(milliseconds: Supervisor.startPatienceMilliseconds))
      } catch {
        host.users.release(user)
        throw error
      }
    } catch {
      send(.refused(cell: order.cell, error))
    }
  }

  private func stop(_ stop: CellStop) {
    guard let cell = cells[stop.cell], cell.stop == nil, [.preparing, .starting, .running].contains(cell.phase)
    else { return }
    cell.stop = (stop.cause, max(0, stop.graceMilliseconds))
    if cell.phase == .running { askToEnd(cell) }
  }

  /// SIGTERM to the main process, and the group's end after the grace.
  private func askToEnd(_ cell: Cell) {
    guard let stop = cell.stop else { return }
    if stop.graceMilliseconds == 0 { return drain(cell) }
    try? cell.main?.signal(SIGTERM)
    cell.killAt = Instant.now.advanced(milliseconds: stop.graceMilliseconds)
  }

  // MARK: cells

  private func serveCell(_ cell: Cell) {
    do {
      guard let packet = try cell.prepared.socket.receive(limit: Bounds.message) else { return initLeft(cell) }
      guard let message = CellMessage(decoding: packet.bytes) else { return initLeft(cell) }
      switch (message, cell.phase) {
      case (.prepared, .preparing): try start(cell)
      case (.running(let since), .starting) where packet.descriptors.count == 3:
        started(cell, since, packet.descriptors)
      case (.refused(let refusal), .preparing), (.refused(let refusal), .starting): refuse(cell, refusal)
      case (.ended(.exited(let code)), .running): ended(cell, .exited(code))
      case (.ended(.signaled(let signal)), .running): ended(cell, .signaled(signal))
      default: initLeft(cell)
      }
    } catch let refusal as Refusal {
      refuse(cell, refusal)
    } catch let error as SystemError where error.errno == EAGAIN {
      return
    } catch {
      initLeft(cell)
    }
  }

  private func start(_ cell: Cell) throws {
    cell.namespaces = try cell.prepared.confine(host: host, own: ownNamespaces)
    try requiring("cell") { () throws(SystemError) in
      try cell.prepared.socket.send(WardenRequest.run(cell.order).encoded, descriptors: cell.standard)
    }
    // From here on only the job holds its streams, so their readers see the end when the job is gone.
    cell.standard = []
    cell.phase = .starting
  }

  private func started(_ cell: Cell, _ since: Instant, _ descriptors: [Descriptor]) {
    cell.main = ProcessHandle(processID: 0, descriptor: descriptors[0])
    (cell.output, cell.result) = (descriptors[1], descriptors[2])
    cell.phase = .running
    cell.startedAt = since
    cell.deadline = since.advanced(milliseconds: cell.order.limits.wallMilliseconds)
    cell.spaceCheckAt = Instant.now
    send(
      .started(
        CellStart(
          cell: cell.order.cell, user: cell.prepared.user, initProcessID: cell.prepared.initProcess.processID,
          namespaces: cell.namespaces)))
    askToEnd(cell)
  }

  private func ended(_ cell: Cell, _ status: CellEnd.Status) {
    cell.status = status
    drain(cell)
  }

  private func refuse(_ cell: Cell, _ refusal: Refusal) {
    cell.refusal = refusal
    drain(cell)
  }

  /// Init is gone without a word: killed, by the kernel for want of memory or by somebody with the right to.
  private func initLeft(_ cell: Cell) {
    if cell.startedAt == nil, cell.refusal == nil {
      cell.refusal = Refusal(control: "cell", stage: "the cell's init ended while it was starting")
    }
    drain(cell)
  }

  /// The kernel is about to end a process of the cell for want of memory.
  private func noteMemory(_ cell: Cell) {
    cell.memoryRanOut = true
    cell.checkDelayMilliseconds = 1
    cell.checkAt = Instant.now
  }

  /// Kills the group and goes on in `finishIfEmpty`.
  private func drain(_ cell: Cell) {
    guard cell.phase != .draining, cell.phase != .removing else { return }
    let now = Instant.now
    cell.endedAt = now
    cell.phase = .draining
    cell.drainingSince = now
    cell.standard = []
    cell.checkDelayMilliseconds = 1
    finishIfEmpty(cell, now)
  }

  private func serveTimers(_ now: Instant) {
    for cell in cells.values {
      guard let wake = cell.wakeAt, wake <= now else { continue }
      switch cell.phase {
      case .preparing, .starting:
        if cell.deadline <= now {
          refuse(cell, Refusal(control: "cell", stage: "the cell did not come up in time", errno: ETIMEDOUT))
        } else {
          checkMemory(cell, now)
        }
      case .running: serveRunning(cell, now)
      case .draining: finishIfEmpty(cell, now)
      case .removing: removeGroups(cell, now)
      }
    }
  }

  private func serveRunning(_ cell: Cell, _ now: Instant) {
    if let killAt = cell.killAt, killAt <= now { return drain(cell) }
    if cell.deadline <= now {
      cell.deadline = Instant(microseconds: .max)
      if cell.stop == nil {
        cell.stop = (.wallClock, cell.order.limits.graceMilliseconds)
        askToEnd(cell)
        if cell.phase != .running { return }
      }
    }
    if cell.checkAt.map({ $0 <= now }) ?? false { checkMemory(cell, now) }
    if cell.spaceCheckAt.map({ $0 <= now }) ?? false { cell.noteSpace(now) }
  }

  private func checkMemory(_ cell: Cell, _ now: Instant) {
    guard cell.memoryRanOut else {
      cell.checkAt = nil
      return
    }
    if let counters = try? cell.prepared.group.counters(), counters.oomKills > 0 { return drain(cell) }
    cell.checkLater(from: now)
  }

  private func finishIfEmpty(_ cell: Cell, _ now: Instant) {
    let group = cell.prepared.group
    do {
      // Again at every look: a write that failed the first time must not leave a cell alive.
      try group.kill()
      if !cell.initReaped { cell.initReaped = try cell.prepared.initProcess.reap() != nil }
      if cell.initReaped, try !group.isPopulated() { return report(cell, emptied: true) }
    } catch {
      warn("cell \(cell.order.cell): \(error)")
    }
    if let since = cell.drainingSince,
      since.advanced(milliseconds: Supervisor.drainPatienceMilliseconds) < now, cell.endedAt != nil
    {
      warn("cell \(cell.order.cell): processes are left that the kernel does not end")
      return report(cell, emptied: false)
    }
    cell.checkLater(from: now)
  }

  private func report(_ cell: Cell, emptied: Bool) {
    let id = cell.order.cell
    if let startedAt = cell.startedAt, let output = cell.output, let result = cell.result {
      var end = CellEnd(cell: id, status: cell.status, stop: cell.stop?.cause, emptied: emptied)
      end.wallMicroseconds = UInt64(max(0, (cell.endedAt ?? startedAt).microseconds - startedAt.microseconds))
      do {
        let counters = try cell.prepared.group.counters()
        end.oomKills = counters.oomKills
        end.pidsLimitHits = counters.pidsLimitHits
        end.cpuMicroseconds = counters.cpuMicroseconds
        end.memoryPeakBytes = counters.memoryPeakBytes
        let isExhausted = try FilesystemSpace.of(output).isExhausted
        end.outputExhausted = isExhausted || cell.outputRanOut
      } catch {
        // Without the kernel's facts there is no outcome; the worker must not use this cell's outputs.
        warn("cell \(id): \(error)")
        end.status = .unknown
        end.emptied = false
      }
      send(.finished(end), end.emptied ? [output, result] : [])
    } else {
      send(.refused(cell: id, cell.whyNotStarted))
    }
    (cell.output, cell.result, cell.main) = (nil, nil, nil)
    cell.phase = .removing
    cell.checkDelayMilliseconds = 1
    removeGroups(cell, Instant.now)
  }

  private func removeGroups(_ cell: Cell, _ now: Instant) {
    if !cell.initReaped { cell.initReaped = ((try? cell.prepared.initProcess.reap()) ?? nil) != nil }
    if cell.initReaped, (try? cell.prepared.group.remove()) == true {
      host.users.release(cell.prepared.user)
      cells[cell.order.cell] = nil
    } else {
      cell.checkLater(from: now)
    }
  }
}
