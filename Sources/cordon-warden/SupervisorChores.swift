import CellPool
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// Taking a used cell down and building the next one cost more than running a short job, and none of it is anybody's to
// wait for. On a machine whose processors are all busy such work would still come first, because it is this process that
// was woken: it would take the processor from the job that was just started, and from the worker that was just told.
// So a chore waits until nothing has happened for a moment, unless it has waited too long; then one is done between any
// two rounds of events, so that under steady load as many cells are taken down as are used.
//
// The last chore is to have one foundation in store, an init with its namespaces and groups: it is the same for every shape,
// so that also a cell that nobody could foresee has that part of its beginning behind it.

/// What is to be done when there is time.
struct Chores {
  /// Cells that were reported.
  var spent: [Cell] = []
  /// Not before this moment.
  var quietAt = Instant(microseconds: 0)
  /// Since when something waits to be done.
  var since: Instant?
  /// One that belongs to no cell yet.
  var foundation: CellFoundation?
  /// No new one before this moment: the last could not be made.
  var foundationAfter = Instant(microseconds: 0)

  /// Long beside the start of a program, short beside the pause between two jobs.
  static let quietMicroseconds: Int64 = 1_500
  static let patienceMilliseconds: Int64 = 20
  static let foundationRetryMilliseconds: Int64 = 1_000

  /// The one in store, if it is there and alive.
  mutating func takeFoundation() -> CellFoundation? {
    defer { foundation = nil }
    guard let foundation else { return nil }
    if foundation.stands { return foundation }
    foundation.end()
    return nil
  }
}

extension Supervisor {
  /// Somebody waits for the processor: the job that was started, the worker that was told.
  func noteActivity() {
    chores.quietAt = Instant(microseconds: Instant.now.microseconds + Chores.quietMicroseconds)
  }

  /// When the next chore may be done; nil while there is none.
  var choreAt: Instant? {
    if leaveAt != nil { return chores.spent.isEmpty ? nil : .now }
    if chores.since != nil { return chores.quietAt }
    return plan.reviewAt().map(Instant.init(microseconds:))
  }

  /// Does at most one chore.
  func doChore(_ now: Instant) {
    guard isDue(now) else { return }
    if let cell = chores.spent.popLast() { return takeDown(cell) }
    if leaveAt != nil { return }
    let wanted = plan.wanted(now: now.microseconds)
    for (shape, unused) in pooled where unused.count > wanted[shape] ?? 0 {
      if let cell = unused.last(where: { $0.phase == .waiting }) {
        drain(cell)
        return rearm(cell)
      }
    }
    for (shape, count) in wanted where pooled[shape]?.count ?? 0 < count { return prepare(shape) }
    if needsFoundation(now) { return makeFoundation() }
    chores.since = nil
  }

  private func needsFoundation(_ now: Instant) -> Bool { chores.foundation == nil && chores.foundationAfter <= now }

  private func makeFoundation() {
    do { chores.foundation = try CellFoundation(serial: nextSerial(), host: host) } catch {
      // Whoever needs one then is told why there is none.
      chores.foundationAfter = Instant.now.advanced(milliseconds: Chores.foundationRetryMilliseconds)
    }
  }

  private func isDue(_ now: Instant) -> Bool {
    if leaveAt != nil { return !chores.spent.isEmpty }
    guard let since = chores.since else {
      if chores.spent.isEmpty, !planHasWork(now), !needsFoundation(now) { return false }
      chores.since = now
      return chores.quietAt <= now
    }
    return chores.quietAt <= now || since.advanced(milliseconds: Chores.patienceMilliseconds) <= now
  }

  private func planHasWork(_ now: Instant) -> Bool {
    let wanted = plan.wanted(now: now.microseconds)
    return wanted.contains { pooled[$0.key]?.count ?? 0 < $0.value }
      || pooled.contains { $0.value.count > wanted[$0.key] ?? 0 }
  }

  private func prepare(_ shape: CellShape) {
    do throws(Refusal) {
      let cell = try build(shape)
      pooled[shape, default: []].append(cell)
      rearm(cell)
    } catch {
      plan.failed(shape)
      warn("no cell is kept waiting: \(error.control): \(error.stage): errno \(error.errno)")
    }
  }

  /// One that nobody asked for has ended, or is to end.
  func forgetUnused(_ cell: Cell) {
    pooled[cell.shape]?.removeAll { $0 === cell }
    if pooled[cell.shape]?.isEmpty ?? false { pooled[cell.shape] = nil }
    if let refusal = cell.refusal {
      plan.failed(cell.shape)
      warn("no cell is kept waiting: \(refusal.control): \(refusal.stage): errno \(refusal.errno)")
    }
  }

  /// Ends the init, which ends the cell's namespaces; the groups can go when it is gone.
  private func takeDown(_ cell: Cell) {
    cell.phase = .removing
    readiness.remove(cell.socket.descriptor)
    readiness.remove(cell.main.descriptor)
    if let event = cell.group.outOfMemory { readiness.remove(event) }
    // First, so that what hangs on it is taken down by the init as it ends, and not here.
    cell.mounts = nil
    // One whose interface is up is another than a new one.
    if cell.isEmptied, !cell.shape.isNetworked {
      host.networks.keep(ofInit: cell.initProcess.processID, proc: host.proc)
    }
    watch(cell.initProcess.descriptor, .read, of: cell, .initProcess)
    // Before the init is told: it does not end before every process of its namespace is reaped.
    try? cell.reapMain()
    try? cell.initProcess.signal(SIGKILL)
    cell.checkDelayMilliseconds = 4
    cell.checkLater(from: .now)
    rearm(cell)
  }

  func removeGroups(_ cell: Cell, _ now: Instant) {
    // A main process that a full patience did not end may have ended since.
    try? cell.reapMain()
    try? cell.reapInit()
    if cell.isInitReaped, (try? cell.group.remove()) == true {
      host.users.release(cell.user)
      cells[cell.serial] = nil
    } else {
      cell.checkLater(from: now)
    }
  }
}
