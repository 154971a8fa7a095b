import Jobs
import Logging
import Postgres
import Sandbox
import Store
import Synchronization
import Testing

@testable import Broker
@testable import Worker

/// What a worker tells the database of what its attempts have sent, over outages.
@Suite("What was sent is counted") struct EgressBudgetsTests {
  /// A database that is away until somebody says otherwise.
  private final class Database: Sendable {
    let isAway = Mutex(false)
    let counted = Mutex<[Int64: Int64]>([:])

    func keep(_ reports: [Store.EgressReport]) throws -> [Int64: Int64?] {
      if isAway.withLock({ $0 }) { throw PostgresError(.connection, "away", isConnectionLoss: true) }
      counted.withLock { counted in
        for report in reports { counted[report.token, default: 0] += report.sent }
      }
      return Dictionary(uniqueKeysWithValues: reports.map { ($0.token, 1_000) })
    }
  }

  private let claim = Claim(
    job: JobID("00000000-0000-7000-8000-000000000001")!, attempt: 1, token: 7, tenant: "t", queue: "q",
    enqueuedBy: "p", specification: JobSpecification(runtime: .exec, argv: ["/usr/bin/true"]),
    specificationError: nil, limits: Limits(), policy: sha256([]), policyDocument: "{}")

  @Test("an outage at an attempt's end forgives nothing: it is counted once the end was recorded")
  func outage() async throws {
    let database = Database()
    let budgets = EgressBudgets(logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })) {
      try database.keep($1)
    }
    let allowance = try await budgets.join(claim, worker: 1)
    try allowance.spend(sent: 300, received: 0, by: claim.token)
    database.isAway.withLock { $0 = true }
    // Gives up after a second, so that the end can be recorded.
    await budgets.settle(claim, worker: 1)
    #expect(database.counted.withLock { $0 } == [7: 0])
    database.isAway.withLock { $0 = false }
    await budgets.leave(claim, worker: 1)
    #expect(database.counted.withLock { $0 } == [7: 300])
    // And nothing more of it is said.
    try await budgets.report(worker: 1)
    #expect(database.counted.withLock { $0 } == [7: 300])
  }
}
