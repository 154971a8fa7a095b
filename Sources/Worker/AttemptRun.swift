import Dispatch
import Jobs
import Logging
import Postgres
import Sandbox
import Store

// Theory of operation: the life of one attempt on a worker
//
//   materialise   inputs and program become read-only files of a private stage, digested on the way
//   start         the database records, durably, that the attempt begins; only then may a job byte run
//   run           the warden's cell runs; its output goes to the database while it runs
//   collect       the cell's cgroup is empty by now; outputs are copied, digested and published by one rename
//   complete      one statement ends the lease and records everything; if the lease is gone, the published
//                 directory is withdrawn again and nothing else happens
//
// Publishing comes before completing: the record never names a directory that is not there. A crash in between
// leaves a directory of an attempt that the database will record as lost; its number is never used again.
// A failure of this worker's own (disk full, warden dead) is no outcome of the job: the attempt is given back.

/// Runs one claimed attempt to its end.
struct AttemptRun: Sendable {
  /// How the attempt left this worker.
  enum End: Equatable, Sendable {
    case recorded(String)
    /// Given back to the queue, or taken from us.
    case givenBack(reason: String)
    case late
  }

  let claim: Claim
  let worker: Int64
  let configuration: WorkerConfiguration
  let store: Store
  let sandbox: Sandbox
  let logger: Logger
  /// Tells the worker that a cell runs. Answers with the reason if the attempt is to be stopped already.
  let cellStarted: @Sendable (RunningCell) async -> StopReason?

  func perform() async -> End {
    do {
      return try await run()
    } catch let refusal as Refusal {
      return await complete(AttemptReport(outcome: .refused, reason: refusal.reason))
    } catch {
      logger.error("attempt failed on the worker's side", metadata: ["error": "\(error)"])
      return await giveBack(started: true, reason: "worker: \(error)")
    }
  }

  private func run() async throws -> End {
    let specification = try readableSpecification()
    let stage = try sandbox.stage()
    defer { stage.remove() }
    let materials = try await Materials(claim: claim, specification: specification, stage: stage, run: self)

    guard try await store.start(worker: worker, claims: [claim]).contains(claim.job) else {
      // Cancelled between claim and start, or no longer ours; `complete` finds out which.
      return await complete(materials.report(.cancelled))
    }
    let cell: RunningCell
    do {
      cell = try await sandbox.run(materials.request(limits: claim.limits))
    } catch  where error.isJobsFault {
      return await complete(materials.report(.refused, reason: error.description))
    }
    if let reason = await cellStarted(cell) { cell.stop(reason) }
    let logs = LogForwarder(store: store, worker: worker, claim: claim)
    await logs.forward(cell.output)
    let ended: CellReport
    do {
      ended = try await cell.report()
    } catch  where error.isJobsFault {
      return await complete(materials.report(.refused, reason: error.description))
    }
    if ended.facts.stopped == .abandoned {
      return await giveBack(started: true, reason: "stopped before it ended")
    }
    return try await record(ended, materials, logs)
  }

  private func record(_ ended: CellReport, _ materials: Materials, _ logs: LogForwarder) async throws -> End {
    let (collected, published) = try await collect(ended)
    // What the last interval could not store is tried once more before the record says the attempt is over.
    await logs.flush()
    var notes = ended.facts.notes
    if await !logs.isComplete { notes.append("log_incomplete") }
    let report = AttemptReport(
      outcome: ended.facts.outcome, reason: collected.resultProblem, notes: notes, result: collected.result,
      stdout: ended.stdout, stderr: ended.stderr,
      usage: Usage(
        wallSeconds: ended.wallSeconds, cpuSeconds: ended.cpuSeconds, memoryPeakBytes: ended.memoryPeakBytes,
        outputBytes: collected.artifacts.reduce(0) { $0 + $1.bytes }),
      artifacts: collected.artifacts, quarantined: collected.quarantined, published: published,
      code: materials.code, inputs: materials.inputs, isolation: ended.isolation)
    let end = await complete(report)
    if case .recorded = end { return end }
    if let published { try Outputs.withdraw(published) }
    return end
  }

  /// Copies and publishes the outputs, on a thread where waiting for a disk holds up nobody else.
  private func collect(_ ended: CellReport) async throws -> (Collected, published: String?) {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async {
        continuation.resume(
          with: Result {
            let collected = try Outputs.collect(
              ended, approvedRoot: configuration.approvedRoot, tenant: claim.tenant, job: claim.job.description,
              attempt: claim.attempt, limits: claim.limits)
            do {
              return (collected, try collected.publish())
            } catch {
              collected.discard()
              throw error
            }
          })
      }
    }
  }

  private func readableSpecification() throws -> JobSpecification {
    guard sha256(Array(claim.policyDocument.utf8)) == claim.policy else {
      throw Refusal("policy: the document does not have the digest \(claim.policy)")
    }
    guard let specification = claim.specification else {
      throw Refusal("specification: \(claim.specificationError ?? "unreadable"); this worker may be too old")
    }
    return specification
  }

  /// Records the end, trying again over lost connections for as long as the lease may live.
  private func complete(_ report: AttemptReport) async -> End {
    do {
      let recorded = try await persist { try await store.complete(worker: worker, claim: claim, report: report) }
      return recorded ? .recorded(report.outcome) : .late
    } catch {
      logger.error("result could not be recorded", metadata: ["error": "\(error)"])
      return .givenBack(reason: "\(error)")
    }
  }

  private func giveBack(started: Bool, reason: String) async -> End {
    do {
      try await persist { try await store.release(worker: worker, claims: [claim], started: started, reason: reason) }
    } catch {
      // The lease runs out by itself; another worker's rescue records the attempt as lost.
      logger.warning("lease could not be given back", metadata: ["error": "\(error)"])
    }
    return .givenBack(reason: reason)
  }

  /// Repeats `statement` while the database is out of reach. Safe because the statements are fenced by the
  /// lease's token and idempotent under it. Ends when the lease must have ended, too.
  private func persist<Value: Sendable>(_ statement: @Sendable () async throws -> Value) async throws -> Value {
    let giveUp = ContinuousClock.now + .seconds(configuration.leaseSeconds * 2)
    while true {
      do {
        return try await statement()
      } catch let error where Self.isTransient(error) && ContinuousClock.now < giveUp {
        logger.warning("database out of reach, trying again", metadata: ["error": "\(error)"])
        try await Task.sleep(for: .milliseconds(Int.random(in: 100...500)))
      }
    }
  }
}

extension AttemptRun {
  /// Whether the same statement may succeed in a moment: the connection is gone or the server is going, a
  /// deadline passed, or two transactions met.
  private static func isTransient(_ error: any Error) -> Bool {
    guard let error = error as? PostgresError else { return false }
    if error.isConnectionLoss || error.kind == .deadline || error.kind == .connection { return true }
    return ["40001", "40P01", "57P01", "57P02", "57P03", "53300"].contains(error.sqlState)
  }
}

/// The job cannot be run as it was specified. Recorded as outcome `refused`.
struct Refusal: Error {
  let reason: String

  init(_ reason: String) {
    self.reason = reason
  }
}
