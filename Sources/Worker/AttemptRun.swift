import Broker
import Credentials
import Destinations
import Jobs
import Logging
import Postgres
import Sandbox
import Store

// Theory of operation: the life of one attempt on a worker
//
//   materialise   inputs and program become read-only files of a private stage, digested on the way
//   start         the database records, durably, that the attempt begins; only then may a job byte run. (Of a job that
//                 was claimed alone the claim itself does, and what is materialised then is its program at most.)
//   run           the warden's cell runs; its output goes to the database while it runs
//   collect       the cell's cgroup is empty by now; outputs are copied, digested and published by one rename
//   complete      one statement ends the lease and records everything; if the lease is gone, nothing is recorded
//                 but a note, and `Publications` withdraws the published directory
//
// Publishing comes before completing: the record never names a directory that is not there. What was published is
// withdrawn only when the database says that the attempt is not recorded. Silence is no answer: a commit whose
// acknowledgement was lost stands, so `complete`, which is idempotent under the token, is asked again until the
// database answers or the worker leaves; `Publications` settles what is open then.
//
// A failure of this worker's own (disk full, warden dead) is no outcome of the job: the attempt is given back.

/// Runs one claimed attempt to its end.
struct AttemptRun: Sendable {
  /// How the attempt left this worker.
  enum End: Equatable, Sendable {
    /// The outcome stands in the database.
    case recorded(String)
    /// Taken from us or stopped by our leave; nothing of this worker's is at fault.
    case givenBack
    /// The lease was gone.
    case late
    /// This worker could not do its part.
    case failed(String)
  }

  let claim: Claim
  let worker: Int64
  /// Controls this worker lacks. Every attempt's attribution names them as waived.
  let missing: [String]
  let configuration: WorkerConfiguration
  let store: Store
  let recorder: Recorder
  let policies: PolicyReader
  let sandbox: Sandbox
  let egress: EgressService
  let budgets: EgressBudgets
  let publications: Publications
  let logger: Logger
  /// Tells the worker that the attempt has a way out, which it must be able to cut. Answers with the reason if it is to be cut already.
  let egressBegins: @Sendable (AttemptEgress) async -> String?
  /// Tells the worker that a cell runs. Answers with the reason if the attempt is to be stopped already.
  let cellStarted: @Sendable (RunningCell) async -> StopReason?
  /// Raised when the attempt is told to stop; the reason is what `stopReason` says then.
  let stopFlag: StopFlag
  let stopReason: @Sendable () async -> StopReason?
  /// True once the worker waits for nothing any more.
  let isLeaving: @Sendable () async -> Bool

  /// Pause before a statement is tried again, in milliseconds; spread, so that a fleet does not knock at once.
  private static let retryPause = 100...500

  func perform() async -> End {
    do {
      let terms = try await policies.terms(of: claim)
      let specification = try readableSpecification()
      let unwaived = terms.unwaived(missing)
      guard unwaived.isEmpty else {
        // The database gives no such job to this worker. Should it, no job byte may run here.
        throw WaiverMissing(controls: unwaived)
      }
      guard Materials.areStaged(claim, specification) else { return try await perform(specification, terms, nil) }
      let stage = try sandbox.stage()
      let end: End
      do {
        end = try await perform(specification, terms, stage)
      } catch {
        try? await onBlockingThread { stage.remove() }
        throw error
      }
      try? await onBlockingThread { stage.remove() }
      return end
    } catch let refusal as Refusal {
      return await complete(AttemptReport(outcome: .refused, reason: refusal.reason))
    } catch {
      // Whether `start` reached the database or not, its own row says; no job byte ran.
      return await fail(error, started: false)
    }
  }

  private func perform(
    _ specification: JobSpecification, _ terms: PolicyTerms, _ stage: Stage?
  ) async throws -> End {
    let credentials = egress.keeper.map {
      AttemptCredentials(
        keeper: $0, claim: claim, logger: logger,
        give: { [store, claim, worker] name, kind, version, place in
          try await store.giveCredential(
            worker: worker, job: claim.job, token: claim.token, credential: name, kind: kind, version: version,
            place: place)
        }, tokens: tokens(for: terms.audiences))
    }
    let end: End
    do {
      end = try await perform(specification, terms, stage, credentials)
    } catch {
      await over(credentials)
      throw error
    }
    await over(credentials)
    return end
  }

  private func over(_ credentials: AttemptCredentials?) async {
    // First, because it is taken for a minute, and an admin's server may hang for longer.
    await budgets.leave(claim, worker: worker)
    await endCredentials(credentials)
  }

  private func endCredentials(_ credentials: AttemptCredentials?) async {
    do {
      let ended = try await credentials?.end() ?? []
      // Where this is not heard, whoever looks for logins that are left finds that there is none of the name.
      if !ended.isEmpty { try await store.loginsEnded(worker: worker, roles: ended) }
    } catch {
      // Loudly: somebody must look at what may still be in use.
      logger.critical("what was made for the attempt may not be ended", metadata: ["error": "\(error)"])
    }
  }

  private func perform(
    _ specification: JobSpecification, _ terms: PolicyTerms, _ stage: Stage?, _ credentials: AttemptCredentials?
  ) async throws -> End {
    let plan = try EgressPlan(asked: specification.grants, offered: terms.grants, phase: .run)
    let egress: AttemptEgress?
    if let plan { egress = try await begin(plan, credentials) } else { egress = nil }
    var materials = try await Materials(
      claim: claim, specification: specification, terms: terms, stage: stage, egress: egress,
      login: try await refusing { try await egress?.login() }, run: self)
    guard try await start(materials) else {
      // Cancelled between claim and start, or no longer ours; the database knows which.
      return await complete(materials.report(.cancelled))
    }
    guard let wanted = specification.fetch, let stage else {
      return await runStarted(materials, egress, credentials, nil)
    }
    do {
      let fetched = try await fetch(wanted, terms, credentials, into: stage)
      materials.add(fetched.inputs)
      egress?.goesOn(after: fetched.ledger)
      return await runStarted(materials, egress, credentials, fetched)
    } catch is Stopped {
      guard await stopReason() == .cancelled else {
        return await giveBack(started: true, reason: "stopped while it fetched")
      }
      return await complete(materials.report(.cancelled, reason: "stopped while it fetched"))
    }
  }

  /// - Throws: `Refusal` where a credential that the grants name cannot be had.
  func begin(_ plan: EgressPlan, _ credentials: AttemptCredentials?) async throws -> AttemptEgress {
    let allowance = try await insist { try await budgets.join(claim, worker: worker) }
    let attempt = try AttemptEgress(
      plan: plan, broker: try egress.broker(), credentials: credentials, claim: claim, store: store, worker: worker,
      budgets: budgets, allowance: allowance, logger: logger, isLeaving: isLeaving)
    try await refusing { try await attempt.checkCredentials() }
    return attempt
  }

  /// What cannot be had is the job's refusal, as a grant that is not there is.
  private func refusing<Value>(_ body: () async throws -> Value) async throws -> Value {
    do { return try await body() } catch let error as CredentialError { throw Refusal("credentials: \(error)") }
  }

  private func start(_ materials: Materials) async throws -> Bool {
    if claim.isBegun { return true }
    let facts = sandbox.facts
    let attribution = StartAttribution(
      code: materials.code, inputs: materials.inputs,
      isolation: waiving(
        Isolation(
          cgroup: facts.cgroup, namespaces: facts.namespaces,
          filter: materials.grants.isEmpty ? facts.filter : facts.networkFilter, uid: nil,
          outputs: materials.terms.outputs,
          egress: materials.grants.isEmpty ? nil : EgressFacts(grants: materials.grants))))
    return try await insist {
      try await recorder.start(claim, attribution)
    }
  }

  /// - Parameter credentials: of the attempt, whichever of its cells they were for: what fetching was shown may lie in what it got.
  private func runStarted(
    _ materials: Materials, _ egress: AttemptEgress?, _ credentials: AttemptCredentials?, _ fetched: Fetched?
  ) async -> End {
    var limits = claim.limits
    limits.wallMilliseconds -= min(Int64((fetched?.seconds ?? 0) * 1_000), limits.wallMilliseconds - 1)
    do {
      if let egress, let reason = await egressBegins(egress) { egress.cut(reason) }
      let logs = LogForwarder(store: store, worker: worker, claim: claim, credentials: credentials)
      let ended = try await withTaskExecutorPreference(sandbox.executor) {
        let cell = try await sandbox.run(materials.request(limits: limits, network: egress?.network()))
        egress?.serves(cell, for: limits.wallMilliseconds)
        if let reason = await cellStarted(cell) { cell.stop(reason) }
        await logs.forward(cell.output)
        return try await cell.report()
      }
      defer { ended.discardOutputs() }
      let reached = (await egress?.finish()).map { $0.following(fetched?.reached) } ?? fetched?.reached
      if ended.facts.stopped == .abandoned {
        return await giveBack(started: true, reason: "stopped before it ended")
      }
      return try await record(ended, materials, logs, reached, credentials)
    } catch {
      // The listeners may have been served before the cell was refused.
      _ = await egress?.finish()
      if let error = error as? SandboxError, error.isJobsFault {
        return await complete(materials.report(.refused, reason: error.description))
      }
      return await fail(error, started: true)
    }
  }

  private func record(
    _ ended: CellReport, _ materials: Materials, _ logs: LogForwarder, _ reached: EgressFacts?,
    _ credentials: AttemptCredentials?
  ) async throws -> End {
    let redactor = credentials?.search?.redactor
    var ended = ended
    ended.isolation.egress = reached
    let collected: Collected
    let published: String?
    do {
      (collected, published) = try await collect(ended, redactor)
    } catch {
      guard stopFlag.isRaised else { throw error }
      let reason = "stopped while its outputs were collected"
      guard await stopReason() == .cancelled else { return await giveBack(started: true, reason: reason) }
      var report = materials.report(.cancelled, reason: reason)
      report.isolation = waiving(ended.isolation)
      return await complete(report)
    }
    // Outputs that cannot be taken over whole are a limit that was passed, whatever the exit code says.
    var facts = ended.facts
    if collected.outputsProblem != nil { facts.outputExhausted = true }
    // What the last interval could not store is tried once more before the record says the attempt is over.
    await logs.flush()
    var notes = facts.notes
    if await !logs.isComplete { notes.append("log_incomplete") }
    let report = AttemptReport(
      outcome: facts.outcome,
      reason: nonempty([collected.outputsProblem, collected.resultProblem]).map { redactor?.redact($0) ?? $0 },
      notes: notes,
      result: redactor.map { redactor in collected.result.map { redactor.redact($0) } } ?? collected.result,
      stdout: ended.stdout, stderr: ended.stderr,
      usage: Usage(
        wallSeconds: ended.wallSeconds, cpuSeconds: ended.cpuSeconds, memoryPeakBytes: ended.memoryPeakBytes,
        outputBytes: collected.outputBytes),
      artifacts: collected.artifacts, quarantined: collected.quarantined, published: published,
      code: materials.code, inputs: materials.inputs, isolation: waiving(ended.isolation))
    let end = await complete(report)
    switch end {
    case .recorded: publications.settled(claim)
    case .late, .givenBack, .failed:
      // The note stays, and with it the question: what lies there is withdrawn once the database says, asked anew,
      // that the attempt ended without it.
      break
    }
    return end
  }

  /// Copies and publishes the outputs, on a thread where waiting for a disk holds up nobody else.
  private func collect(_ ended: CellReport, _ redactor: Redactor?) async throws -> (Collected, published: String?) {
    try await onBlockingThread {
      let collected = try Outputs.collect(
        ended, approvedRoot: configuration.approvedRoot, tenant: claim.tenant, job: claim.job.description,
        attempt: claim.attempt, limits: claim.limits, screen: redactor.map(OutputScreen.init),
        isCancelled: { stopFlag.isRaised })
      do {
        if let destination = collected.destination { try publications.begin(claim, path: destination) }
        return (collected, try collected.publish())
      } catch {
        collected.discard()
        throw error
      }
    }
  }

  private func waiving(_ isolation: Isolation) -> Isolation {
    var isolation = isolation
    isolation.waivers = missing
    return isolation
  }

  private func nonempty(_ problems: [String?]) -> String? {
    let stated = problems.compactMap { $0 }
    return stated.isEmpty ? nil : stated.joined(separator: "; ")
  }

  private func readableSpecification() throws -> JobSpecification {
    guard let specification = claim.specification else {
      throw Refusal("specification: \(claim.specificationError ?? "unreadable"); this worker may be too old")
    }
    return specification
  }

  // MARK: Ends

  private func complete(_ report: AttemptReport) async -> End {
    do {
      let recorded = try await insist { try await recorder.complete(claim, report) }
      return recorded ? .recorded(report.outcome) : .late
    } catch {
      logger.error("the result could not be recorded", metadata: ["error": "\(error)"])
      // Fenced, so harmless if it was recorded after all; without it the lease would live on with this worker.
      _ = await giveBack(started: true, reason: "worker: \(error)")
      return .failed("\(error)")
    }
  }

  private func fail(_ error: any Error, started: Bool) async -> End {
    if stopFlag.isRaised { return await giveBack(started: started, reason: "stopped: \(error)") }
    logger.error("the worker could not run the attempt", metadata: ["error": "\(error)"])
    _ = await giveBack(started: started, reason: "worker: \(error)")
    return .failed("\(error)")
  }

  private func giveBack(started: Bool, reason: String) async -> End {
    do {
      try await insist { try await store.release(worker: worker, claims: [claim], started: started, reason: reason) }
    } catch {
      // The lease runs out by itself; another worker's rescue records the attempt as lost.
      logger.warning("the lease could not be given back", metadata: ["error": "\(error)"])
    }
    return .givenBack
  }

  /// Repeats `statement` until the database answers, or the worker leaves. Safe because these statements are fenced
  /// by the lease's token and idempotent under it.
  func insist<Value: Sendable>(_ statement: @Sendable () async throws -> Value) async throws -> Value {
    while true {
      do {
        return try await statement()
      } catch {
        guard Self.isTransient(error), await !isLeaving() else { throw error }
        logger.warning("the database did not answer, asking again", metadata: ["error": "\(error)"])
        try await Task.sleep(for: .milliseconds(Int.random(in: Self.retryPause)))
      }
    }
  }

  /// Whether the same statement may be answered in a moment: the connection is gone or the server is going, a
  /// deadline passed, or two transactions met.
  static func isTransient(_ error: any Error) -> Bool {
    guard let error = error as? PostgresError else { return false }
    if error.isConnectionLoss || error.kind == .deadline || error.kind == .connection { return true }
    guard let state = error.sqlState else { return false }
    // Serialization and deadlock; a standby that was not promoted yet; a lock timeout; then whole classes: out of
    // resources, an operator's intervention (shutdown, crash, starting up, statement timeout), the system's own errors.
    return ["40001", "40P01", "25006", "55P03"].contains(state)
      || ["53", "57", "58"].contains { state.hasPrefix($0) }
  }
}

/// The job's policy does not waive what this worker lacks.
struct WaiverMissing: Error, CustomStringConvertible {
  let controls: [String]

  var description: String {
    "the job's policy does not waive \(controls.joined(separator: ", ")), which this host lacks"
  }
}

/// The job cannot be run as it was specified. Recorded as outcome `refused`.
struct Refusal: Error {
  let reason: String

  init(_ reason: String) {
    self.reason = reason
  }
}
