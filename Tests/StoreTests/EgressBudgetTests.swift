import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What a principal's jobs may send in a day, over all workers.
@Suite("Egress budgets", .migrated) struct EgressBudgetTests {
  private static let reaching = #"{"runtime": "bash", "code": "true", "grants": ["index"]}"#

  /// An agent with a budget, and the policy's grant that its jobs ask for.
  private struct Scene {
    let agent: Member
    let boss: Member

    init(budget: Int64?) async throws {
      agent = try await Member.producer()
      boss = try await Member.make("cordon_operator")
      var members = try #require(try json(try await boss.store.policyInForce().document).object)
      members["grants"] = try json(#"{"index": {"host": "index.internal", "port": 443, "mode": "opaque"}}"#)
      _ = try await boss.store.setPolicy(
        String(decoding: try JSONEncoder().encode(JSONValue.object(members)), as: UTF8.self))
      try await limit(budget)
    }

    func limit(_ budget: Int64?) async throws {
      try await boss.store.limitPrincipal(
        agent.role, kind: .agent, expiresAt: nil, jobsPerHour: nil, cpuSecondsPerDay: nil, egressBytesPerDay: budget)
    }

    func enqueue(_ specification: String = EgressBudgetTests.reaching) async throws {
      _ = try await agent.store.enqueue(queue: "default", specification: specification)
    }

    /// A worker with one attempt of the agent's that runs.
    func running() async throws -> Running {
      try await enqueue()
      let worker = try await Member.worker()
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      #expect(try await worker.member.store.start(worker: worker.id, plain([claim])) == [claim.job])
      return Running(store: worker.member.store, worker: worker.id, claim: claim)
    }

    func shown() async throws -> JSONValue? {
      try await boss.store.principals().map(json).first { $0["role"]?.string == agent.role }
    }
  }

  private struct Running {
    let store: Store
    let worker: Int64
    let claim: Claim

    /// What is left; the outer nil where the attempt is not known as this worker's.
    @discardableResult
    func report(_ number: Int64, sent: Int64, received: Int64 = 0, token: Int64? = nil) async throws -> Int64?? {
      let token = token ?? claim.token
      return try await store.reportEgress(
        worker: worker, [.init(job: claim.job, token: token, number: number, sent: sent, received: received)])[token]
    }
  }

  @Test("a report is counted once under its number, and the answer has it; what comes back is counted apart")
  func counted() async throws {
    let scene = try await Scene(budget: 1_000)
    let run = try await scene.running()
    #expect(try await run.report(1, sent: 0) == 1_000)
    #expect(try await run.report(2, sent: 300, received: 5_000) == 700)
    #expect(try await run.report(2, sent: 300, received: 5_000) == 700)
    #expect(try await run.report(3, sent: 200) == 500)
    let shown = try await scene.shown()
    #expect(shown?["egress_bytes_per_day"] == .integer(1_000) && shown?["egress_bytes_this_day"] == .integer(500))
    #expect(shown?["received_bytes_this_day"] == .integer(5_000) && shown?["state"]?.string == "active")
    #expect(try await run.report(4, sent: 5_000) == 0)
    #expect(try await scene.shown()?["state"]?.string == "spent")
  }

  @Test("who has used it puts no job with grants in, and those that wait are put off; others go on")
  func used() async throws {
    let scene = try await Scene(budget: 1_000)
    let run = try await scene.running()
    try await scene.enqueue()
    try await run.report(1, sent: 999)
    try await scene.enqueue()
    try await run.report(2, sent: 1)
    let error = try await refusal { try await scene.enqueue() }
    #expect(error.sqlState == "CD429" && error.message.contains("its 1000 bytes of egress a day"), "\(error)")
    try await scene.enqueue(sleepJob)
    try await scene.enqueue(#"{"runtime": "bash", "code": "true", "grants": []}"#)
    let claims = try await run.store.claim(worker: run.worker, limit: 10)
    #expect(claims.count == 2 && claims.allSatisfy { $0.specification?.grants == [] })
    let due = try await admin(
      "select (run_at between now() + interval '9 minutes' and now() + interval '11 minutes')::text from cordon.scheduled"
    )
    #expect(due == ["true", "true"])
    // Somebody else's is somebody else's.
    let other = try await Member.producer()
    _ = try await other.store.enqueue(queue: "default", specification: Self.reaching)
    #expect(try await run.store.claim(worker: run.worker, limit: 10).count == 1)
    // Raised, and of another day.
    try await scene.limit(2_000)
    try await scene.enqueue()
    #expect(try await run.report(3, sent: 0) == 1_000)
    try await scene.limit(1_000)
    _ = try await admin("update cordon.spending set at = at - interval '25 hours' returning 1::text")
    try await scene.enqueue()
    #expect(try await run.report(4, sent: 1) == 999)
  }

  @Test("a job that is alone is put off by the claim that would begin it at once")
  func begun() async throws {
    let scene = try await Scene(budget: 10)
    let run = try await scene.running()
    try await scene.enqueue()
    try await run.report(1, sent: 10)
    #expect(
      try await run.store.claim(worker: run.worker, limit: 1, beginning: StartAttribution()).isEmpty)
    #expect(try await admin("select count(*) from cordon.scheduled") == ["1"])
  }

  @Test("workers beside each other are told the same sum, and nothing is lost between them")
  func beside() async throws {
    let scene = try await Scene(budget: 100_000)
    var runs: [Running] = []
    for _ in 0..<4 { runs.append(try await scene.running()) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, run) in runs.enumerated() {
        group.addTask {
          for number in 1...25 { try await run.report(Int64(index * 100 + number), sent: 100) }
        }
      }
      try await group.waitForAll()
    }
    for run in runs { #expect(try await run.report(1_000, sent: 0) == 90_000) }
  }

  @Test("without a budget nothing is written; one that is set meanwhile counts from then on")
  func none() async throws {
    let scene = try await Scene(budget: nil)
    let run = try await scene.running()
    #expect(try await run.report(1, sent: 1 << 40) == .some(nil))
    #expect(try await admin("select count(*) from cordon.spending") == ["0"])
    try await scene.limit(0)
    #expect(try await refusal { try await scene.enqueue() }.sqlState == "CD429")
    #expect(try await run.report(2, sent: 1) == 0)
    #expect(try await admin("select sum(sent_bytes)::text from cordon.spending") == ["1"])
  }

  @Test("a worker says nothing of an attempt that is not its own; of one that is over, for a minute")
  func others() async throws {
    let scene = try await Scene(budget: 1_000)
    let run = try await scene.running()
    let other = try await Member.worker()
    let stolen = try await other.member.store.reportEgress(
      worker: other.id, [.init(job: run.claim.job, token: run.claim.token, number: 1, sent: 900, received: 0)])
    #expect(stolen.isEmpty)
    #expect(try await run.report(2, sent: 900, token: run.claim.token + 1) == .none)
    #expect(try await run.report(3, sent: 1) == 999)
    #expect(try await run.store.complete(worker: run.worker, claim: run.claim, report: .succeeded()))
    #expect(try await run.report(4, sent: 1) == 998)
    let producer = try await refusal {
      try await scene.agent.store.reportEgress(
        worker: run.worker, [.init(job: run.claim.job, token: run.claim.token, number: 5, sent: 1, received: 0)])
    }
    #expect(producer.sqlState == "42501")
    // A number that is no amount gives nothing back.
    #expect(try await run.report(6, sent: -500, received: 1) == 998)
  }

  @Test("the reports of a minute that is over become one row, and the sum stays")
  func folded() async throws {
    let scene = try await Scene(budget: 10_000)
    let run = try await scene.running()
    for number in 1...20 { try await run.report(Int64(number), sent: 10, received: 1) }
    _ = try await admin(
      """
      update cordon.spending set at = date_trunc('minute', now()) - interval '2 hours' + report / 10 * interval '1 minute'
      returning 1::text
      """)
    #expect(try await run.report(21, sent: 10) == 9_790)
    #expect(
      try await admin("select format('%s %s', sent_bytes, received_bytes) from cordon.spending order by at")
        == ["90 9", "100 10", "10 1", "10 0"])
    #expect(try await run.report(22, sent: 0) == 9_790)
  }

  @Test("a worker that reports more than there is keeps no report from being kept")
  func sums() async throws {
    let scene = try await Scene(budget: 10_000)
    let run = try await scene.running()
    // Each as much as one report can say; their sum is no 64-bit number.
    _ = try await admin(
      """
      insert into cordon.spending (role, at, sent_bytes, received_bytes, token, report)
      select $1, date_trunc('minute', now() - interval '1 hour'), 1125899906842624, 1125899906842624, 1, n
      from generate_series(1, 9000) n returning 1::text
      """, [Parameter(scene.agent.role)])
    #expect(try await run.report(1, sent: 1) == 0)
    #expect(
      try await admin("select format('%s %s', sent_bytes, received_bytes) from cordon.spending order by at")
        == ["1125899906842624 1125899906842624", "1 0"])
    #expect(try await scene.shown()?["state"]?.string == "spent")
  }

  @Test(
    "what is left is summed once a principal, however many of its attempts are asked for; more than 10000 are refused")
  func many() async throws {
    let scene = try await Scene(budget: 10_000)
    let boss = try await Database.current.connect()
    for _ in 0..<5 { try await scene.enqueue() }
    func answer(_ sql: String) async throws -> [String?] {
      try await boss.query(Statement(name: sql, sql: sql), []).map { try $0.get(at: 0, as: String?.self) }
    }
    try await boss.execute(script: "begin; set local track_functions = 'pl'")
    let id = try #require(
      try await answer("select cordon.register_worker('w', 'h', 'b', array['default'], 10, 30)::text")[0])
    #expect(try await answer("select job::text from cordon.claim(\(id), 10)").count == 5)
    let calls = "select pg_stat_get_xact_function_calls('cordon.egress_left(name)'::regprocedure)::text"
    let before = try await answer(calls)[0].flatMap { Int($0) } ?? 0
    let left = try await answer(
      """
      select egress_left::text from cordon.report_egress(\(id), array(select job from cordon.lease order by job),
        array(select token from cordon.lease order by job), array_fill(0::bigint, array[5]), array_fill(0::bigint, array[5]),
        array_fill(0::bigint, array[5]))
      """)
    #expect(left == Array(repeating: "10000", count: 5))
    #expect((try await answer(calls)[0].flatMap { Int($0) } ?? 0) - before == 1)
    let error = try await refusal {
      try await boss.query(
        Statement(
          name: "",
          sql:
            "select egress_left from cordon.report_egress(\(id), array_fill(gen_random_uuid(), array[10001]), '{}', '{}', '{}', '{}')"
        ),
        [])
    }
    #expect(error.sqlState == "22023" && error.message.contains("10000"), "\(error)")
    await boss.close()
  }

  @Test func aBudgetIsNoNegativeNumber() async throws {
    let scene = try await Scene(budget: nil)
    #expect(try await refusal { try await scene.limit(-1) }.sqlState == "22023")
  }
}
