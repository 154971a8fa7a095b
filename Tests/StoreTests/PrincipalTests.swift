import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// Who may act, until when, and how much.
@Suite(.migrated) struct PrincipalTests {
  private func limit(
    _ member: Member, expires: Date? = nil, jobs: Int? = nil, cpu: Double? = nil
  ) async throws {
    let boss = try await Member.make("cordon_operator")
    try await boss.store.limitPrincipal(
      member.role, kind: .agent, expiresAt: expires, jobsPerHour: jobs, cpuSecondsPerDay: cpu)
    await boss.pool.close()
  }

  private func state(_ member: Member) async throws -> String? {
    try await Member.superuser.store.principals().map(json).first { $0["role"]?.string == member.role }?["state"]?
      .string
  }

  private func enqueue(_ member: Member, _ count: Int = 1) async throws {
    _ = try await member.store.enqueueMany(queue: "default", specifications: Array(repeating: sleepJob, count: count))
  }

  @Test func aBudgetOfJobsIsOfAnyHour() async throws {
    let agent = try await Member.producer()
    try await limit(agent, jobs: 10)
    try await enqueue(agent, 7)
    let over = try await refusal { try await enqueue(agent, 4) }
    #expect(over.sqlState == "CD429" && over.message.contains("7 of its 10"), "\(over)")
    try await enqueue(agent, 3)
    #expect(try await refusal { try await enqueue(agent) }.sqlState == "CD429")
    // An hour later there is room again.
    _ = try await admin("update cordon.spending set at = at - interval '61 minutes' returning 1::text")
    try await enqueue(agent, 10)
    // Somebody else's budget is somebody else's.
    try await enqueue(try await Member.producer(), 30)
  }

  /// What was rolled back was not spent, and two at once do not both spend the last of it.
  @Test func sessionsBesideEachOtherShareIt() async throws {
    let agent = try await Member.producer()
    try await limit(agent, jobs: 10)
    let counts = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask {
          let pool = Database.current.pool(user: agent.role, maximum: 1)
          var taken = 0
          for _ in 0..<4 {
            do {
              _ = try await Store(pool: pool).enqueue(queue: "default", specification: sleepJob)
              taken += 1
            } catch let error as PostgresError where error.sqlState == "CD429" {}
          }
          await pool.close()
          return taken
        }
      }
      return try await group.reduce(0, +)
    }
    #expect(counts == 10)
    #expect(try await admin("select count(*) from cordon.job") == ["10"])
    _ = try await admin("update cordon.spending set at = at - interval '2 hours' returning 1::text")
    _ = try? await agent.column(
      "select cordon.enqueue('default', '\(sleepJob)'::jsonb)::text || (1 / (random() * 0))::text")
    #expect(try await admin("select count(*) from cordon.spending where at > now() - interval '1 hour'") == ["0"])
  }

  @Test func whoHasExpiredMayNothingAndItsJobsAreHeld() async throws {
    let agent = try await Member.producer()
    let worker = try await Member.worker()
    try await enqueue(agent, 2)
    try await limit(agent, expires: Date(timeIntervalSinceNow: 3_600))
    try await enqueue(agent)
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 1).count == 1)
    try await limit(agent, expires: Date(timeIntervalSinceNow: -1))
    #expect(try await state(agent) == "expired")
    let error = try await refusal { try await enqueue(agent) }
    #expect(error.sqlState == "42501" && error.message.contains("expired"), "\(error)")
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).isEmpty)
    #expect(
      try await admin("select distinct split_part(reason, ':', 1) from cordon.held") == ["principal"])
    try await limit(agent)
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).count >= 2)
  }

  @Test func processorTimeIsBoundedByTheDay() async throws {
    let agent = try await Member.producer()
    let worker = try await Member.worker()
    try await limit(agent, cpu: 10)
    try await enqueue(agent, 4)
    func run(_ cpu: Double) async throws {
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      #expect(try await worker.member.store.start(worker: worker.id, plain([claim])).count == 1)
      var report = AttemptReport.succeeded()
      report.usage?.cpuSeconds = cpu
      #expect(try await worker.member.store.complete(worker: worker.id, finished: [(claim, report)])[claim.job] == true)
    }
    try await run(6)
    #expect(try await state(agent) == "active")
    try await run(5)
    #expect(try await state(agent) == "spent")
    #expect(try await refusal { try await enqueue(agent) }.sqlState == "CD429")
    // What waits is put off, and looked at again before enough of the day is past.
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).isEmpty)
    let due = try await admin(
      "select bool_and(run_at between now() + interval '9 minutes' and now() + interval '11 minutes')::text from cordon.scheduled"
    )
    #expect(due == ["true"])
    // A larger budget lets it go on.
    try await limit(agent, cpu: 100)
    #expect(try await state(agent) == "active")
    try await enqueue(agent)
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).count >= 1)
  }

  @Test("other bounds leave the kind as it is, and one that is unknown is refused")
  func kind() async throws {
    let member = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    func kinds() async throws -> [String?] {
      try await admin("select kind from cordon.principal where role = $1", [Parameter(member.role)])
    }
    #expect(try await kinds() == ["service"])
    try await limit(member, jobs: 1)
    try await boss.store.limitPrincipal(
      member.role, kind: nil, expiresAt: nil, jobsPerHour: 2, cpuSecondsPerDay: nil)
    #expect(try await kinds() == ["agent"])
    let error = try await refusal {
      try await boss.column("select cordon.limit_principal('\(member.role)', 'king', null, null, null)::text")
    }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("kind: "), "\(error)")
  }

  @Test func onlyOperatorsSay() async throws {
    let agent = try await Member.producer()
    let error = try await refusal {
      try await agent.store.limitPrincipal(
        agent.role, kind: .person, expiresAt: nil, jobsPerHour: nil, cpuSecondsPerDay: nil)
    }
    #expect(error.sqlState == "42501")
    let boss = try await Member.make("cordon_operator")
    let unknown = try await refusal {
      try await boss.store.limitPrincipal(
        "nobody", kind: .person, expiresAt: nil, jobsPerHour: 1, cpuSecondsPerDay: nil)
    }
    #expect(unknown.sqlState == "CD404")
    #expect(try await admin("select count(*) from cordon.audit where what = 'principal_limited'") == ["0"])
  }
}
