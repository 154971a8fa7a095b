import Broker
import Jobs
import Logging
import Store
import Synchronization

// Theory of operation: how a worker keeps principals within what they may send in a day (`EgressAllowance` says how it is counted)
//
//   join     before an attempt with grants starts: the database is asked what is left to its principal
//   report   with each heartbeat, for all attempts that are open: what they have used, for what is left
//   settle   once an attempt's session is closed, before its end is recorded: the last of what it used
//   leave    the attempt is over here: settled once more, because the database takes it for a minute after the end (migration 0052)
//
// What cannot be reported is tried again with the next heartbeat. A worker that does not hear its database goes on with what it was
// told, until its lease is over and it ends what it runs.

/// The allowances of the principals whose attempts run on this worker.
final class EgressBudgets: Sendable {
  /// `Store.reportEgress`.
  typealias Reporting = @Sendable (_ worker: Int64, [Store.EgressReport]) async throws -> [Int64: Int64?]
  private let keep: Reporting
  private let logger: Logger
  private let state = Mutex(State())

  private struct State {
    var allowances: [String: EgressAllowance] = [:]
    /// By fencing token.
    var jobs: [Int64: JobID] = [:]
  }

  /// How often the last report is tried, once the attempt is over.
  private static let lastTries = 20

  init(logger: Logger, keep: @escaping Reporting) {
    self.keep = keep
    self.logger = logger
  }

  /// What an attempt may spend from; nothing of it where the database does not know the attempt as this worker's.
  /// - Throws: `PostgresError` where it cannot be asked; then the attempt must not run.
  func join(_ claim: Claim, worker: Int64) async throws -> EgressAllowance {
    let allowance = state.withLock { state in
      let allowance = state.allowances[claim.enqueuedBy] ?? EgressAllowance(of: claim.enqueuedBy)
      state.allowances[claim.enqueuedBy] = allowance
      state.jobs[claim.token] = claim.job
      allowance.join(claim.token)
      return allowance
    }
    try await report([allowance], worker: worker)
    return allowance
  }

  /// For all that are open.
  func report(worker: Int64) async throws {
    try await report(state.withLock { Array($0.allowances.values) }, worker: worker)
  }

  /// The last of what an attempt has used, as well as can be.
  func settle(_ claim: Claim, worker: Int64) async {
    guard let allowance = state.withLock({ $0.allowances[claim.enqueuedBy] }) else { return }
    var tries = 0
    while allowance.owes(claim.token) {
      do {
        guard try await report([allowance], worker: worker) else { return }
      } catch {
        tries += 1
        logger.warning("what was sent is not reported yet", metadata: ["error": "\(error)"])
        guard tries < Self.lastTries, AttemptRun.isTransient(error) else { return }
        try? await Task.sleep(for: LogForwarder.interval)
      }
    }
  }

  func leave(_ claim: Claim, worker: Int64) async {
    await settle(claim, worker: worker)
    state.withLock { state in
      state.jobs[claim.token] = nil
      if state.allowances[claim.enqueuedBy]?.leave(claim.token) == true { state.allowances[claim.enqueuedBy] = nil }
    }
  }

  /// False where the database knows none of the attempts as this worker's: then nobody was told anything.
  @discardableResult
  private func report(_ allowances: [EgressAllowance], worker: Int64) async throws -> Bool {
    let batches = allowances.map { (allowance: $0, batch: $0.report()) }
    let jobs = state.withLock { $0.jobs }
    // In one order, so that a heartbeat's and that of an attempt which ends do not wait for each other.
    let reports = batches.flatMap(\.batch.reports).compactMap { report in
      jobs[report.token].map {
        Store.EgressReport(
          job: $0, token: report.token, number: report.number, sent: report.amounts.sent,
          received: report.amounts.received)
      }
    }.sorted { $0.token < $1.token }
    guard !reports.isEmpty else { return false }
    let left = try await keep(worker, reports)
    for (allowance, batch) in batches {
      // The same for all attempts of a principal.
      if let answer = batch.reports.compactMap({ left[$0.token] }).first { allowance.answered(batch, left: answer) }
    }
    return !left.isEmpty
  }
}
