import Broker
import Credentials
import Destinations
import Glibc
import Jobs
import Kernel
import Logging
import Sandbox
import Store
import Synchronization

// Theory of operation: what an attempt with grants reaches
//
//   plan     which sockets listen in the cell, from the policy that the attempt runs under (`EgressPlan`)
//   open     the warden has made them in the cell's network namespace; the broker takes them, before the job's first instruction
//   serve    the broker decides about each connection and request; each decision is a line of the ledger
//   forward  lines are written to the database while the attempt runs, in their order
//   count    what its principal may send over all of its attempts is shared with them (`EgressBudgets`)
//   cut      a kill switch, a policy that gives less by now, a lease that is lost, a ledger that cannot be stored: everything that
//            is open is closed at once
//   finish   the cell is over: the session is closed, the last lines are written, and count and head go into the report
//
// Nothing falls back: where the session cannot be opened the listeners are closed, the cell is ended, and the attempt is given
// back, for another worker to try.

/// The open egress of one attempt on this worker.
final class AttemptEgress: Sendable {
  let plan: EgressPlan
  private let broker: Broker
  /// What the cell's clients are to trust for grants that are inspected.
  let inspection: Inspection?
  /// Nil where this worker has none.
  let credentials: AttemptCredentials?
  private let claim: Claim
  private let worker: Int64
  private let budgets: EgressBudgets
  private let allowance: EgressAllowance
  private let ledger: LedgerForwarder
  private let logger: Logger
  private let state = Mutex(State())

  private struct State {
    /// What was said before the session was there.
    var cutReason: String?
    var withholdReason: String?
    var session: EgressSession?
    var opening: Task<EgressSession, any Error>?
    var hasFailed = false
    var cell: RunningCell?
    var alarm: Task<Void, any Error>?
    var summary: LedgerSummary?
    /// Of the session before this one.
    var before: LedgerSummary?
  }

  init(
    plan: EgressPlan, broker: Broker, credentials: AttemptCredentials?, claim: Claim, store: Store, worker: Int64,
    budgets: EgressBudgets, allowance: EgressAllowance, logger: Logger, isLeaving: @escaping @Sendable () async -> Bool
  ) throws {
    self.plan = plan
    inspection = try Inspection(for: plan.grants)
    self.broker = broker
    self.credentials = credentials
    self.claim = claim
    self.worker = worker
    self.budgets = budgets
    self.allowance = allowance
    self.logger = logger
    ledger = LedgerForwarder(logger: logger, isLeaving: isLeaving) { lines in
      try await store.appendEgress(worker: worker, job: claim.job, token: claim.token, lines: lines)
    }
  }

  /// Sees that what the grants name can be had, before anything runs.
  /// - Throws: `CredentialError`.
  func checkCredentials() async throws {
    let named = plan.grants.compactMap(\.credential)
    guard let credentials else {
      if let name = named.first {
        throw CredentialError(
          .forbidden, "this worker has no credential '\(name)' (fix: cordon worker --credentials FILE)")
      }
      return
    }
    try await credentials.check(plan.grants)
  }

  /// The login that a grant of mode tcp names, for the job to use itself: it lives no longer than the attempt.
  /// - Throws: `CredentialError` where the credential is no login, or there are two.
  func login() async throws -> UserPassword? {
    let named = plan.grants.filter { $0.mode == .tcp }.compactMap(\.credential)
    guard let name = named.first, let credentials else { return nil }
    guard named.count == 1 else {
      throw CredentialError(.forbidden, "a job has one login, and \(named.joined(separator: ", ")) are several")
    }
    return try await credentials.login(name)
  }

  /// What the sandbox is asked for.
  func network() -> RequestedNetwork {
    RequestedNetwork(listeners: plan.listeners) { descriptors in
      // The broker closes what it is given; the sandbox closes what it has.
      let listeners = descriptors.map { fcntl($0.raw, F_DUPFD_CLOEXEC, 3) }
      let opening = Task {
        do {
          return try await self.open(listeners)
        } catch {
          self.logger.error("the broker cannot serve this attempt", metadata: ["error": "\(error)"])
          self.state.withLock { state in
            state.hasFailed = true
            return state.cell
          }?.stop(.abandoned)
          throw error
        }
      }
      self.state.withLock { $0.opening = opening }
    }
  }

  /// Before the session is opened: an earlier one of this attempt came to that.
  func goesOn(after before: LedgerSummary?) { state.withLock { $0.before = before } }

  /// The cell to end where the session cannot be opened.
  /// - Parameter milliseconds: its wall-clock limit. The grace behind it is for a job to put its things away, not to go on.
  func serves(_ cell: RunningCell, for milliseconds: Int64) {
    let alarm = Task {
      try await Task.sleep(for: .milliseconds(milliseconds))
      self.cut(StopReason.wallClock.inWords)
    }
    state.withLock { $0.alarm = alarm }
    let hasFailed = state.withLock { state in
      state.cell = cell
      return state.hasFailed
    }
    if hasFailed { cell.stop(.abandoned) }
  }

  private func open(_ listeners: [Int32]) async throws -> EgressSession {
    ledger.begin { [weak self] reason in self?.cut(reason) }
    let provider: any CredentialProvider
    if let credentials { provider = credentials } else { provider = NoCredentials() }
    let session = try await broker.open(
      AttemptAddress(
        job: claim.job.description, attempt: claim.attempt, token: claim.token, tenant: claim.tenant),
      grants: Array(zip(plan.grants, listeners)), proxy: listeners.last, inspection: inspection,
      after: state.withLock { $0.before }, allowance: allowance,
      credentials: provider, conceal: { [credentials] in credentials?.redact($0) ?? $0 },
      ledger: { [ledger] in ledger.add($0.json) })
    let (cut, withhold) = state.withLock { state in
      state.session = session
      return (state.cutReason, state.withholdReason)
    }
    if let withhold { session.stopInjecting(reason: withhold) }
    if let cut { session.cut(reason: cut) }
    return session
  }

  /// Closes everything that is open, now and for good.
  func cut(_ reason: String) {
    let session = state.withLock { state in
      state.cutReason = state.cutReason ?? reason
      return state.session
    }
    session?.cut(reason: reason)
  }

  /// No request gets a credential any more.
  func withhold(_ reason: String) {
    let session = state.withLock { state in
      state.withholdReason = state.withholdReason ?? reason
      return state.session
    }
    session?.stopInjecting(reason: reason)
  }

  /// What the ledger came to; nil until it is finished.
  var summary: LedgerSummary? { state.withLock { $0.summary } }

  /// Closes the session and writes what is left of its ledger; nil where it was never opened.
  func finish() async -> EgressFacts {
    let opening = state.withLock { state in
      state.cell = nil
      state.alarm?.cancel()
      return state.opening
    }
    let names = plan.grants.map(\.name)
    guard let session = try? await opening?.value else {
      await ledger.finish()
      return EgressFacts(grants: names)
    }
    let summary = await session.close()
    state.withLock { $0.summary = summary }
    await budgets.settle(claim, worker: worker)
    await ledger.finish()
    return EgressFacts(grants: names, lines: summary.count, head: summary.head, unrecorded: summary.unrecorded)
  }
}

extension EgressFacts {
  /// Of two sessions of one attempt; this one's ledger went on where the other ended.
  func following(_ before: EgressFacts?) -> EgressFacts {
    guard let before else { return self }
    return EgressFacts(
      grants: before.grants + grants, lines: max(lines, before.lines), head: head ?? before.head,
      unrecorded: max(unrecorded, before.unrecorded))
  }
}

extension StopReason {
  /// For the ledger.
  var inWords: String {
    switch self {
    case .wallClock: "its time is over"
    case .cancelled: "the attempt was cancelled"
    case .abandoned: "the attempt is not this worker's any more"
    }
  }
}
