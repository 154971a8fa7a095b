import Jobs
import Logging
import Sandbox
import Store

// Theory of operation: the worker
//
// A worker is stateless: everything that must survive it is in PostgreSQL. It proves that this host can confine
// (self-test in a real cell), registers, and then four tasks run until it leaves:
//
//   claims      one statement for all free slots; woken by a freed slot, a notification, or the poll interval
//   heartbeats  one row a worker, whatever it holds; the answer names attempts to cancel and attempts lost
//   rescues     gives attempts of silent workers back to their queues, in small batches
//   wake-ups    LISTEN: new work, cancellations
//
// Leaving has two stages. `drain` (first SIGTERM): claim no more, let attempts finish within the drain timeout.
// `leave` (second SIGTERM, or the timeout): end the cells, give the attempts back, unregister. Should the process
// die instead, the warden sees its socket close and kills every cell, and the heartbeat goes stale.
//
// A worker fences itself: without an acknowledged heartbeat for a whole lease other workers may own its attempts,
// so it ends their cells before they can do anything else. The clock for that is monotonic and its own; it only
// ever ends work early.

/// Claims attempts, runs them in cells, and writes back what happened.
public actor Worker {
  private let configuration: WorkerConfiguration
  private let store: Store
  private let sandbox: Sandbox
  private let logger: Logger

  private var roster: Roster
  private var cells: [JobID: RunningCell] = [:]
  private var id: Int64 = 0
  private var lastHeartbeat = ContinuousClock.now
  private let wakeUps: AsyncStream<Void>
  private let wake: AsyncStream<Void>.Continuation
  private let left: AsyncStream<Void>
  private let leaveNow: AsyncStream<Void>.Continuation

  public init(configuration: WorkerConfiguration, store: Store, sandbox: Sandbox, logger: Logger) {
    self.configuration = configuration
    self.store = store
    self.sandbox = sandbox
    self.logger = logger
    roster = Roster(slots: configuration.slots)
    (wakeUps, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    (left, leaveNow) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
  }

  /// Serves until `drain` or `leave`; returns when nothing is held any more.
  /// - Throws: `WorkerError` when a control is missing on this host or the database refuses this worker.
  public func run() async throws {
    try await store.requireCurrentSchema()
    // What the warden could not get at all, and what a look from inside a cell shows.
    let findings = sandbox.facts.missing + (try await SelfTest.run(sandbox))
    let missing = findings.filter { !$0.holds }
    guard missing.isEmpty else { throw WorkerError.cannotConfine(missing) }
    id = try await store.registerWorker(
      name: configuration.name, host: configuration.host, build: configuration.build.description,
      queues: configuration.queues, slots: configuration.slots, leaseSeconds: configuration.leaseSeconds)
    lastHeartbeat = .now
    logger.info(
      "serving",
      metadata: [
        "worker": "\(id)", "slots": "\(configuration.slots)",
        "queues": "\(configuration.queues.joined(separator: ","))", "controls": "\(findings.count)",
        "cgroup": "\(sandbox.facts.cgroup)",
      ])

    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.sendHeartbeats() }
      group.addTask { await self.rescue() }
      group.addTask { await self.listen() }
      group.addTask { await self.poll() }
      // Beside the group: it ends with the warden and not by cancellation.
      Task { await self.watchSandbox() }
      await self.claimUntilDrained()
      for await _ in left { break }
      group.cancelAll()
    }
    try await store.retireWorker(id)
    logger.info("left", metadata: ["worker": "\(id)"])
  }

  /// Claims no more; attempts may finish within the drain timeout.
  public func drain() {
    guard roster.mode == .serving else { return }
    logger.info("draining", metadata: ["running": "\(roster.entries.count)"])
    stop(roster.enter(.draining))
    wake.yield()
    leaveIfIdle()
    let timeout = configuration.drainTimeout
    Task {
      try? await Task.sleep(for: timeout)
      self.leave()
    }
  }

  /// Ends every cell, gives the attempts back.
  public func leave() {
    guard roster.mode != .leaving, !roster.mayLeave else { return }
    logger.info("ending what runs", metadata: ["running": "\(roster.entries.count)"])
    stop(roster.enter(.leaving))
    wake.yield()
    leaveIfIdle()
  }

  private func leaveIfIdle() {
    if roster.mayLeave { leaveNow.yield() }
  }

  private func stop(_ stops: [JobID: StopReason]) {
    for (job, reason) in stops { cells[job]?.stop(reason) }
  }

  // MARK: Claims

  private func claimUntilDrained() async {
    for await _ in wakeUps {
      if roster.mode != .serving { return }
      guard roster.wanted > 0 else { continue }
      do {
        for claim in try await store.claim(worker: id, limit: roster.wanted) { begin(claim) }
      } catch {
        logger.warning("claim failed", metadata: ["error": "\(error)"])
        try? await Task.sleep(for: .milliseconds(Int.random(in: 200...1_000)))
      }
    }
  }

  private func begin(_ claim: Claim) {
    roster.add(claim)
    var logger = logger
    logger[metadataKey: "job"] = "\(claim.job)"
    logger[metadataKey: "attempt"] = "\(claim.attempt)"
    let attempt = AttemptRun(
      claim: claim, worker: id, configuration: configuration, store: store, sandbox: sandbox, logger: logger,
      cellStarted: { await self.started($0, claim.job) })
    Task {
      logger.info("attempt begins")
      let end = await attempt.perform()
      logger.info("attempt ended", metadata: ["end": "\(end)"])
      self.ended(claim.job)
    }
  }

  private func started(_ cell: RunningCell, _ job: JobID) -> StopReason? {
    cells[job] = cell
    return roster.stopReason(job)
  }

  private func ended(_ job: JobID) {
    cells[job] = nil
    roster.remove(job)
    wake.yield()
    leaveIfIdle()
  }

  private func poll() async {
    while !Task.isCancelled {
      wake.yield()
      try? await Task.sleep(for: configuration.pollInterval)
    }
  }

  private func listen() async {
    for await notification in store.notifications([Channel.ready, Channel.cancel]) {
      if notification.channel == Channel.cancel {
        await heartbeat()
      } else {
        wake.yield()
      }
    }
  }

  // MARK: Leases

  private func sendHeartbeats() async {
    while !Task.isCancelled {
      await heartbeat()
      try? await Task.sleep(for: configuration.heartbeatInterval)
    }
  }

  private func heartbeat() async {
    let asked = ContinuousClock.now
    do {
      let held = roster.held
      let verdicts = try await store.heartbeat(worker: id, held: held)
      lastHeartbeat = max(lastHeartbeat, asked)
      stop(roster.apply(verdicts, to: held))
    } catch {
      logger.warning("heartbeat failed", metadata: ["error": "\(error)"])
      guard ContinuousClock.now - lastHeartbeat > .seconds(configuration.leaseSeconds) else { return }
      let stops = roster.abandonAll()
      if !stops.isEmpty { logger.error("no heartbeat for a whole lease: ending \(stops.count) attempts") }
      stop(stops)
    }
  }

  private func rescue() async {
    // Half a lease, with jitter, so that a fleet does not ask at the same moment.
    let pause = configuration.leaseSeconds / 2
    while !Task.isCancelled {
      do {
        let rescued = try await store.rescue(limit: 100)
        if rescued > 0 { logger.notice("rescued attempts of silent workers", metadata: ["count": "\(rescued)"]) }
      } catch {
        logger.warning("rescue failed", metadata: ["error": "\(error)"])
      }
      try? await Task.sleep(for: .seconds(min(pause, 5) * Double.random(in: 0.75...1.25)))
    }
  }

  // MARK: The sandbox

  /// A worker whose warden died can run nothing: it gives everything back and leaves.
  private func watchSandbox() async {
    await sandbox.waitUntilClosed()
    guard roster.mode != .leaving, !roster.mayLeave else { return }
    logger.critical("the warden is gone; leaving")
    stop(roster.enter(.leaving))
    wake.yield()
    leaveIfIdle()
  }
}

/// Channels the database notifies on. Hints only: polling finds everything they announce.
private enum Channel {
  static let ready = "cordon_ready"
  static let cancel = "cordon_cancel"
}

/// Why a worker does not serve.
public enum WorkerError: Error, CustomStringConvertible {
  /// Controls this host does not enforce, each with its fix.
  case cannotConfine([Finding])

  public var description: String {
    switch self {
    case .cannotConfine(let findings):
      "this host cannot confine: "
        + findings.map { "\($0.control): \($0.detail)" + ($0.fix.map { " (fix: \($0))" } ?? "") }
        .joined(separator: "; ")
    }
  }
}
