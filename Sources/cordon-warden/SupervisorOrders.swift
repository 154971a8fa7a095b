import CellPool
import Glibc
import Kernel
import WardenProtocol

// Orders: from the worker's word to a job that runs.

extension Supervisor {
  func take(_ order: CellOrder, given: [Descriptor]) {
    do throws(Refusal) {
      guard leaveAt == nil else { throw Refusal(control: "warden", stage: "the warden is leaving") }
      guard ordered[order.cell] == nil, !isMakingDisk(order.cell) else {
        throw Refusal(control: "order.cell", stage: "this cell exists")
      }
      if let problem = order.problem { throw problem }
      let streams = given.compactMap { JobStream($0) }
      guard given.count == 3, streams.count == 3 else {
        throw Refusal(control: "order.descriptors", stage: "stdin, stdout, stderr: pipes, sockets, files, /dev/null")
      }
      if order.shape.outputs == .disk { return try beginDisk(order, given: streams) }
      accept(order, given: streams, try cell(for: order.shape))
    } catch {
      send(.refused(cell: order.cell, error))
    }
  }

  func accept(_ order: CellOrder, given: [JobStream], _ cell: Cell) {
    cell.order = order
    cell.given = given
    ordered[order.cell] = cell
    noteActivity()
    if cell.phase == .waiting { startOrRefuse(cell) }
    rearm(cell)
  }

  /// An unused cell of the shape: one that waits, one that is nearly there, or a new one.
  private func cell(for shape: CellShape) throws(Refusal) -> Cell {
    let unused = pooled[shape] ?? []
    plan.ordered(shape, waiting: unused.count { $0.phase == .waiting }, now: Instant.now.microseconds)
    guard let index = unused.firstIndex(where: { $0.phase == .waiting }) ?? unused.indices.first else {
      return try build(shape)
    }
    return pooled[shape]!.remove(at: index)
  }

  func build(_ shape: CellShape) throws(Refusal) -> Cell {
    try build(shape, serial: nextSerial(), user: try takeUser(), disk: nil)
  }

  func takeUser() throws(Refusal) -> UInt32 {
    if let user = host.users.take() { return user }
    throw Refusal(control: "uids", stage: "every uid of this warden is a live cell's", fix: "widen --uids")
  }

  /// The uid goes back where no cell comes of it.
  func build(_ shape: CellShape, serial: UInt64, user: UInt32, disk: DetachedMount?) throws(Refusal) -> Cell {
    do throws(Refusal) {
      let cell = try Cell.build(
        serial: serial, shape: shape, user: user, host: host, own: ownNamespaces,
        patienceMilliseconds: Supervisor.startPatienceMilliseconds, disk: disk,
        zygote: try zygote(for: shape.runtime), foundation: try foundation())
      cells[cell.serial] = cell
      // What waits to execute a program says nothing before its order.
      if cell.phase == .building { watch(cell.socket.descriptor, .read, of: cell, .socket) }
      watch(cell.main.descriptor, .read, of: cell, .main)
      if let event = cell.group.outOfMemory { watch(event, .read, of: cell, .memory) }
      return cell
    } catch {
      host.users.release(user)
      throw error
    }
  }

  private func foundation() throws(Refusal) -> CellFoundation {
    if let kept = chores.takeFoundation() { return kept }
    return try CellFoundation(serial: nextSerial(), host: host)
  }

  func watch(_ descriptor: Descriptor, _ interest: Readiness.Interest, of cell: Cell, _ source: Token.Source) {
    do { try readiness.add(descriptor, interest, token: Token.of(cell, source)) } catch {
      // An event would be missed; the look that every phase takes at its deadline remains.
      warn("cell \(cell.serial): \(error)")
    }
  }

  func startOrRefuse(_ cell: Cell) {
    do throws(Refusal) { try start(cell) } catch { refuse(cell, error) }
  }

  /// Hands a whole cell its order.
  private func start(_ cell: Cell) throws(Refusal) {
    guard let order = cell.order, let mounts = cell.mounts else { return }
    if host.grounds.mode == .root { for stream in cell.given { stream.giveAway(to: cell.user) } }
    if !order.stage.isEmpty {
      try CellMounts(cell: mounts, own: host.mountNamespace, staging: host.staging).attach(
        stage: order.stage, names: order.network != nil)
    }
    if let network = order.network {
      let listeners = try CellListeners(cell: cell.initProcess.descriptor, own: host.networkNamespace).open(network)
      send(.listening(cell: order.cell), listeners)
    }
    // From here on the socket says one thing, by its end: that the process executes the job, or is gone. To be woken for
    // that would take the processor from the job at its first instruction, and again for the worker that is told; a job
    // shorter than the look that is taken instead is reported as started when it has ended.
    if cell.shape.runtime != .program { readiness.remove(cell.socket.descriptor) }
    cell.startCheckAt = Instant.now.advanced(milliseconds: Supervisor.startCheckMilliseconds)
    try requiring("cell") { () throws(SystemError) in
      try cell.socket.send(
        JobCall(arguments: order.arguments, environment: order.environment).bytes,
        descriptors: cell.given.map(\.descriptor))
    }
    // Only the job holds its streams now, so their readers see the end when the job is gone.
    cell.given = []
    cell.phase = .starting
    cell.deadline = Instant.now.advanced(milliseconds: Supervisor.startPatienceMilliseconds)
  }

  func stop(_ stop: CellStop) {
    if stopDisk(stop.cell) { return }
    guard let cell = ordered[stop.cell], [.building, .starting, .running].contains(cell.phase)
    else { return }
    let grace = min(max(0, stop.graceMilliseconds), Supervisor.longestGraceMilliseconds)
    // The first cause stands; a later word can only make it sooner.
    if let first = cell.stop, first.graceMilliseconds <= grace { return }
    cell.stop = (cell.stop?.cause ?? stop.cause, grace)
    if cell.phase == .running { askToEnd(cell) }
    rearm(cell)
  }

  /// A cell that cannot be frozen is ended: it was to do nothing more.
  func freeze(_ number: UInt64, _ isFrozen: Bool) {
    guard let cell = ordered[number], [.starting, .running].contains(cell.phase) else { return }
    do { try cell.group.freeze(isFrozen) } catch {
      warn("cell \(cell.serial): \(error)")
      if isFrozen { stop(CellStop(cell: number, cause: .abandoned, graceMilliseconds: 0)) }
    }
  }

  /// SIGTERM to the main process, and the group's end after the grace.
  func askToEnd(_ cell: Cell) {
    guard let stop = cell.stop else { return }
    if stop.graceMilliseconds == 0 { return drain(cell) }
    try? cell.main.signal(SIGTERM)
    let killAt = Instant.now.advanced(milliseconds: stop.graceMilliseconds)
    cell.killAt = min(cell.killAt ?? killAt, killAt)
  }
}
