import FoundationEssentials
import Jobs
import Postgres

// The ledger of what attempts reached. Its lines are the broker's; the database keeps them in their chain and in their order.
extension Store {
  /// One attempt's ledger, as far as it is there.
  public struct EgressLedger: Sendable, Equatable {
    public let attempt: Int
    /// Fencing token of the attempt, which its first line is chained to.
    public let token: Int64
    /// In their canonical text, from the first.
    public let lines: [String]
  }

  /// Keeps lines of an attempt; false when this worker does not hold it, nor held it a minute ago. The same lines again change
  /// nothing.
  /// - Parameter lines: 1 to 1000, each following the one before it. Refused (22023) where one does not.
  public func appendEgress(worker: Int64, job: JobID, token: Int64, lines: [String]) async throws -> Bool {
    try await one(
      .appendEgress, [Parameter(worker), Parameter(job.description), Parameter(token), Parameter(lines)]
    ).get("kept")
  }

  /// Of the attempts that this worker holds, the tokens of those that policies give less by now than when they began.
  public func egressFallen(worker: Int64, held: [(job: JobID, token: Int64)]) async throws -> Set<Int64> {
    let rows = try await all(
      .egressFallen, [Parameter(worker), Parameter(held.map(\.job.description)), Parameter(held.map(\.token))])
    return Set(try rows.map { try $0.get("token") })
  }

  /// What an attempt has used since its last report.
  public struct EgressReport: Sendable, Equatable {
    public let job: JobID
    public let token: Int64
    /// Counted once, however often it is said.
    public let number: Int64
    public let sent: Int64
    public let received: Int64

    public init(job: JobID, token: Int64, number: Int64, sent: Int64, received: Int64) {
      self.job = job
      self.token = token
      self.number = number
      self.sent = sent
      self.received = received
    }
  }

  /// Keeps what attempts have used, and says what their principals may still send today with all of that counted: bytes by fencing
  /// token, nil for no bound. An attempt that this worker does not hold, nor held a minute ago, has no entry.
  public func reportEgress(worker: Int64, _ reports: [EgressReport]) async throws -> [Int64: Int64?] {
    let rows = try await all(
      .reportEgress,
      [
        Parameter(worker), Parameter(reports.map(\.job.description)), Parameter(reports.map(\.token)),
        Parameter(reports.map(\.number)), Parameter(reports.map(\.sent)), Parameter(reports.map(\.received)),
      ])
    var left: [Int64: Int64?] = [:]
    for row in rows { left.updateValue(try row.get("egress_left"), forKey: try row.get("token")) }
    return left
  }

  /// Who an attempt is to others, by the database's clock.
  public struct HeldAttempt: Sendable, Equatable {
    public let now: Date
    public let deadline: Date
    public let submitter: String
    public let policy: Digest
    public let code: Digest?
    /// Whether both its policy and the one in force name the audience that was asked about.
    public let namesAudience: Bool
    /// Nil where it acts for nobody but its submitter.
    public let delegated: Delegated?

    /// For whom it acts, by what is delegated to its submitter now.
    public struct Delegated: Sendable, Equatable {
      public let person: String
      /// Of what the job asked for.
      public let scopes: Set<String>
      /// When the delegation, or the person's own right, is over.
      public let until: Date
    }
  }

  /// Nil where this worker does not hold it any more, it does not run, or it acts for somebody who does not let it any more.
  /// - Parameter audience: whom a token of it would be for.
  public func attemptIdentity(
    worker: Int64, job: JobID, token: Int64, audience: String
  ) async throws -> HeldAttempt? {
    let rows = try await all(
      .attemptIdentity, [Parameter(worker), Parameter(job.description), Parameter(token), Parameter(audience)])
    guard let row = rows.first else { return nil }
    guard let policy = Digest(try row.get("policy", as: String.self)) else {
      throw PostgresError(.decoding, "the policy is no digest", statement: Query.attemptIdentity.rawValue)
    }
    return HeldAttempt(
      now: try row.get("now_at"), deadline: try row.get("deadline_at"), submitter: try row.get("submitter"),
      policy: policy, code: try row.get("code", as: String?.self).flatMap { Digest($0) },
      namesAudience: try row.get("names_audience"),
      delegated: try row.get("person", as: String?.self).map { person in
        let scopes = Data(try row.get("scopes", as: String.self).utf8)
        return .init(
          person: person, scopes: try JSONDecoder().decode(Set<String>.self, from: scopes),
          until: try row.get("delegated_until"))
      })
  }

  /// Whether an attempt of this fencing token is held by any worker.
  public func isHeld(token: Int64, worker: Int64) async throws -> Bool {
    try await one(.tokenIsHeld, [Parameter(worker), Parameter(token)]).get("held")
  }

  /// The ledger of an attempt; nil where it has no lines.
  /// - Parameter attempt: nil is the one that runs, or else the last that ended.
  public func egress(_ job: JobID, attempt: Int? = nil) async throws -> EgressLedger? {
    let rows = try await all(
      .egress, [Parameter(job.description), Parameter(attempt), Parameter(Int64(0)), Parameter(10_000)])
    guard let first = rows.first else { return nil }
    return EgressLedger(
      attempt: try first.get("attempt_number"), token: try first.get("token"),
      lines: try rows.map { try $0.get("line", as: String.self) })
  }
}
