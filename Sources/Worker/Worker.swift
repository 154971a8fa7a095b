import Jobs
import Logging
import Postgres
import Sandbox
import Store

// Theory of operation: the worker
//
// A worker is stateless: everything that must survive it is in PostgreSQL. It proves that this host can confine
// (self-test in a real cell), registers, and then these tasks run until it leaves:
//
//   claims      one statement for all free slots; woken by a freed slot, a notification, or the poll interval
//   heartbeats  one row a worker, whatever it holds; the answer names attempts to cancel and attempts lost
//   silence     lets no credential into a request once the database has not been heard for some seconds
//   fence       ends every cell once a whole lease has passed without an acknowledged heartbeat
//   rescues     gives attempts of silent workers back to their queues, in small batches
//   logins      ends what attempts of silent workers could still log in with (`WorkerLogins.swift`)
//   schedules   fires what is due; each worker looks, and the database lets one of them have each turn
//   wake-ups    LISTEN: new work, cancellations, revocations
//   revocations asks once a second whether anything was revoked, and if so sends a heartbeat
//   progress    what running jobs say of it, once a second, where it has changed
//   canary      looks from inside a cell again, every few minutes
//
// The fence is a task of its own because the heartbeat may hang instead of fail (a frozen server, a half-open
// connection): after a lease other workers may own these attempts, whatever became of the statement. Its clock is
// monotonic and the worker's own; it only ever ends work early.
//
// Leaving has two stages. `drain` (first SIGTERM): claim no more, give back what a claim under way still brings, let
// attempts finish within the drain timeout. `leave` (second SIGTERM, or the timeout): end the cells, give the
// attempts back, and go within `leavePatience` even if the database is silent; a lease that could not be given back
// runs out. Should the process die instead, the warden sees its socket close and kills every cell.
//
// What is missing at the start must be waived by the policy in force, or the worker does not serve; it is then given
// only jobs whose own policy waives it, and every attempt says so. What stops holding later drains the worker at once,
// with the reason in its database row, and makes its process fail (`Canary`).
//
// A worker that fails at its own part (disk full, stage gone) gives the attempt back and pauses its claims, longer
// with each failure in a row, so that it does not burn a job's attempts that another worker could run.

/// Claims attempts, runs them in cells, and writes back what happened.
public actor Worker {
  let configuration: WorkerConfiguration
  let store: Store
  let sandbox: Sandbox
  let egressService: EgressService
  let budgets: EgressBudgets
  let publications: Publications
  let logger: Logger

  var roster: Roster
  private var lanes = LaneCursor()
  private var pace = ClaimPace()
  /// Of the id under which this worker is registered; what attempts of an earlier one still have to say goes by theirs.
  var recorder: Recorder
  private let policies = PolicyReader()
  /// A job waits, by the database's word since the last claim.
  private var isTold = false
  /// The database has this worker's word that it is idle, and it has looked once more since.
  private var isIdle = false
  var cells: [Int64: RunningCell] = [:]
  /// Of attempts with grants.
  var egress: [Int64: AttemptEgress] = [:]
  private var stopFlags: [Int64: StopFlag] = [:]
  var id: Int64 = 0
  /// Controls this host does not give and the policy in force waived when the worker registered.
  var waived: [String] = []
  /// The control that stopped holding while the worker served.
  var broken: Finding?
  var wardenIsGone = false
  /// Where an operator revoked this worker, or its login is barred, in the database's words.
  var revoked: WorkerError?
  var lastHeartbeat = ContinuousClock.now
  private var failurePause = Backoff(base: .seconds(1), ceiling: .seconds(30))
  private var pausedUntil = ContinuousClock.now
  private let wakeUps: AsyncStream<Void>
  private let wake: AsyncStream<Void>.Continuation
  let loginsDue: AsyncStream<Void>
  let loginsToEnd: AsyncStream<Void>.Continuation
  /// Under way, perhaps behind a server that does not answer.
  var endingLogins: Task<Void, Never>?
  /// Under way, perhaps behind somebody's lock.
  var reportingEgress: Task<Void, Never>?
  let heartbeatsDue: AsyncStream<Void>
  let beat: AsyncStream<Void>.Continuation
  private let left: AsyncStream<Void>
  private let leaveNow: AsyncStream<Void>.Continuation

  /// SQLSTATE of `cordon.own_worker`: no worker of this id and role is registered.
  static let unknownWorker = "CD410"
  /// SQLSTATE of a claim that began what may not begin any more; it is taken back whole.
  static let changedMeanwhile = "40001"
  /// SQLSTATE of a worker that was revoked. What it holds is others'.
  static let revokedWorker = "CD403"

  /// invalid_authorization_specification, and in words that only a role which is no login gets. Rules of pg_hba.conf refuse with the
  /// same code, and may be another server's after a failover; a server that says it in another language is asked until the lease is over.
  static func isBarredLogin(_ error: PostgresError) -> Bool {
    error.kind == .connection && error.sqlState == "28000" && error.message.contains("is not permitted to log in")
  }

  /// A claim that was answered within this is still ours: no attempt that its worker does not name is taken back sooner than
  /// 5 s after its claim (`cordon.heartbeat`).
  private static let promptAnswer = Duration.seconds(1)

  /// How long `leave` waits for the database before the worker goes without its answer.
  static let leavePatience = Duration.seconds(5)

  /// - Parameter stateDirectory: the worker's own, kept from one run to the next.
  public init(
    configuration: WorkerConfiguration, store: Store, sandbox: Sandbox, stateDirectory: String,
    egress: EgressService? = nil, logger: Logger
  ) throws {
    egressService = egress ?? EgressService(logger: logger)
    budgets = EgressBudgets(logger: logger) { try await store.reportEgress(worker: $0, $1) }
    self.configuration = configuration
    self.store = store
    self.sandbox = sandbox
    self.logger = logger
    publications = try Publications(stateDirectory: stateDirectory)
    roster = Roster(slots: configuration.slots)
    recorder = Recorder(store: store, worker: id)
    (wakeUps, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    (heartbeatsDue, beat) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    (loginsDue, loginsToEnd) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    (left, leaveNow) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
  }

  /// Serves until `drain` or `leave`; returns when nothing is held any more.
  /// - Throws: `WorkerError` when a control is missing on this host or stops holding; `PostgresError` when the database
  ///   refuses this worker.
  public func run() async throws {
    try await store.requireCurrentSchema()
    // What the warden could not get at all, and what a look from inside a cell shows.
    let findings = sandbox.facts.missing + (try await SelfTest.run(sandbox))
    waived = try Boundary(findings: findings, terms: try await termsInForce(findings)).waived
    // Told to leave before it began.
    guard roster.mode == .serving else {
      if let revoked { throw revoked }
      return
    }
    try await register()
    logger.info(
      "serving",
      metadata: [
        "worker": "\(id)", "slots": "\(configuration.slots)",
        "queues": "\(configuration.queues.joined(separator: ","))", "controls": "\(findings.count)",
        "cgroup": "\(sandbox.facts.cgroup)", "waived": "\(waived.joined(separator: ","))",
      ])

    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.sendHeartbeats() }
      group.addTask { await self.paceHeartbeats() }
      group.addTask { await self.fence() }
      group.addTask { await self.withholdInSilence() }
      group.addTask { await self.rescue() }
      group.addTask { await self.paceLogins() }
      group.addTask { await self.endLogins() }
      group.addTask { await self.fireSchedules() }
      group.addTask { await self.reportProgress() }
      group.addTask { await self.listen() }
      group.addTask { await self.watchRevocations() }
      group.addTask { await self.claimWhenWoken() }
      group.addTask { await self.poll() }
      // Beside the group: it ends with the warden and not by cancellation. The canary waits for the warden, too.
      Task { await self.watchSandbox() }
      let canary = Task { await self.sendCanaries() }
      for await _ in left { break }
      canary.cancel()
      group.cancelAll()
    }
    await retire()
    logger.info("left", metadata: ["worker": "\(id)"])
    // Whoever supervises this process must see that it did not leave of its own will.
    if let broken { throw WorkerError.stoppedHolding(broken) }
    if wardenIsGone { throw WorkerError.wardenIsGone }
    if let revoked { throw revoked }
  }

  /// Claims no more; attempts may finish within the drain timeout.
  public func drain() {
    guard roster.mode == .serving else { return }
    logger.info("draining", metadata: ["running": "\(roster.entries.count)"])
    stop(roster.enter(.draining))
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
    leaveIfIdle()
    Task {
      try? await Task.sleep(for: Self.leavePatience)
      self.leaveNow.yield()
    }
  }

  private func leaveIfIdle() {
    if roster.mayLeave { leaveNow.yield() }
  }

  func stop(_ stops: [Int64: StopReason]) {
    for (token, reason) in stops {
      // First: what a cell sends while it is ended would go out.
      egress[token]?.cut(reason.inWords)
      stopFlags[token]?.raise()
      cells[token]?.stop(reason)
    }
  }

  // MARK: Claims

  private func claimWhenWoken() async {
    for await _ in wakeUps {
      guard ContinuousClock.now >= pausedUntil else { continue }
      let began = ContinuousClock.now
      let free = configuration.slots - roster.entries.count
      if let wait = pace.wait(free: free, slots: configuration.slots, now: began) {
        wakeAfter(wait)
        continue
      }
      guard let search = lanes.search(now: began, isTold: isTold) else { continue }
      let wanted = roster.beginClaim()
      guard wanted > 0 else { continue }
      isTold = false
      var claims: [Claim] = []
      do {
        claims = try await store.claim(worker: id, limit: wanted, search: search, beginning: beginning)
        if .now - began > Self.promptAnswer {
          // The database may have taken back by now what it began.
          for index in claims.indices { claims[index].isBegun = false }
        }
        lanes.found(claims, by: search, limit: wanted, began: began, now: .now)
        pace.claimed(claims.count, of: wanted)
        // Nothing behind what it knew: only a look can find more.
        if claims.count < wanted, case .known = search { wake.yield() }
        if claims.count < wanted, case .look = search {
          // Only a look that finds nothing marks this worker idle; and who enqueued while it was under way may have seen no
          // idle worker yet, and told nobody.
          if !isIdle || !claims.isEmpty { wake.yield() }
          isIdle = claims.isEmpty
        } else {
          isIdle = false
        }
      } catch is CancellationError {
      } catch let error as PostgresError where error.sqlState == Self.changedMeanwhile {
        wake.yield()
      } catch {
        logger.warning("claim failed", metadata: ["error": "\(error)"])
      }
      let (run, giveBack) = roster.claimed(claims)
      for claim in run { begin(claim) }
      if !giveBack.isEmpty { await release(giveBack) }
      leaveIfIdle()
    }
  }

  /// What is known of an attempt before its job is.
  private var beginning: StartAttribution {
    let facts = sandbox.facts
    return StartAttribution(
      isolation: Isolation(
        cgroup: facts.cgroup, namespaces: facts.namespaces, filter: facts.filter, uid: nil, waivers: waived))
  }

  private func wakeAfter(_ wait: Duration) {
    let wake = wake
    Task {
      try? await Task.sleep(for: wait)
      wake.yield()
    }
  }

  /// What a claim brought after the order to leave; no attempt is spent.
  private func release(_ claims: [Claim]) async {
    do {
      try await store.release(worker: id, claims: claims, started: false, reason: "the worker leaves")
    } catch {
      logger.warning("leases could not be given back", metadata: ["error": "\(error)"])
    }
    for claim in claims { roster.remove(token: claim.token) }
  }

  private func begin(_ claim: Claim) {
    var logger = logger
    logger[metadataKey: "job"] = "\(claim.job)"
    logger[metadataKey: "attempt"] = "\(claim.attempt)"
    let stopFlag = StopFlag()
    stopFlags[claim.token] = stopFlag
    let attempt = AttemptRun(
      claim: claim, worker: id, missing: waived, configuration: configuration, store: store, recorder: recorder,
      policies: policies,
      sandbox: sandbox, egress: egressService, budgets: budgets, publications: publications, logger: logger,
      egressBegins: { await self.egressBegins($0, claim.token) },
      cellStarted: { await self.started($0, claim.token) },
      stopFlag: stopFlag, stopReason: { await self.stopReason(claim.token) }, isLeaving: { await self.isLeaving })
    Task {
      logger.info("attempt begins")
      let began = ContinuousClock.now
      let end = await attempt.perform()
      logger.info("attempt ended", metadata: ["end": "\(end)"])
      self.ended(claim.token, end, after: .now - began)
    }
  }

  private func started(_ cell: RunningCell, _ token: Int64) async -> StopReason? {
    cells[token] = cell
    if roster.isFrozen(token: token) { await cell.freeze(true) }
    return roster.stopReason(token: token)
  }

  private func egressBegins(_ attempt: AttemptEgress, _ token: Int64) -> String? {
    egress[token] = attempt
    if isSilent { attempt.withhold(Self.silence) }
    if roster.isFrozen(token: token) { return Self.frozen }
    return roster.stopReason(token: token)?.inWords
  }

  private func stopReason(_ token: Int64) -> StopReason? { roster.stopReason(token: token) }

  private var isLeaving: Bool { roster.mode == .leaving }

  private func ended(_ token: Int64, _ end: AttemptRun.End, after duration: Duration) {
    pace.attemptTook(duration)
    cells[token] = nil
    egress[token] = nil
    stopFlags[token] = nil
    roster.remove(token: token)
    // Once for a blip that hits many attempts at a time.
    if case .failed = end, ContinuousClock.now >= pausedUntil {
      let pause = failurePause.next()
      pausedUntil = .now + pause
      logger.warning("claims pause after a failure of this worker's own", metadata: ["for": "\(pause)"])
    } else if case .recorded = end {
      failurePause.reset()
    }
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
      // Both only set a flag, so a flood of notifications costs nothing.
      if notification.channel == Channel.cancel {
        beat.yield()
      } else {
        isTold = true
        // It has taken this worker's word that it is idle.
        isIdle = false
        wake.yield()
      }
    }
  }
}

/// Channels the database notifies on. Hints only: polling finds everything they announce.
private enum Channel {
  static let ready = "cordon_ready"
  static let cancel = "cordon_cancel"
}
