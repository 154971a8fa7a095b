import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// Policies that change while jobs wait: nothing runs under the wider one (QU-29).
@Suite(.migrated) struct HeldTests {
  private func job(_ limits: String = "{}") -> String {
    #"{"runtime": "bash", "code": "", "limits": \#(limits)}"#
  }

  private func record(_ id: JobID, by member: Member) async throws -> JSONValue {
    try json(try #require(try await member.column("select cordon.record($1::uuid)::text", [Parameter("\(id)")])[0]))
  }

  private func setPolicy(_ boss: Member, _ changes: [String: JSONValue?]) async throws -> Digest {
    try await boss.store.setPolicy(try await PolicyTests.document(changes))
  }

  private func ceilings(_ changes: [String: JSONValue]) async throws -> [String: JSONValue?] {
    let old = try #require(try json(try await PolicyTests.document())["ceilings"]?.object)
    let defaults = try #require(try json(try await PolicyTests.document())["defaults"]?.object)
    return ["ceilings": .object(old.merging(changes) { $1 }), "defaults": .object(defaults.merging(changes) { $1 })]
  }

  @Test func whatWasNarrowedRunsUnderTheNarrower() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    let id = try await producer.store.enqueue(queue: "default", specification: job()).job
    let before = try await boss.store.policyInForce().digest
    let narrower = try await setPolicy(boss, try await ceilings(["memory": .string("64MiB"), "wall": .string("1s")]))
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 10)
    let claim = try #require(claims.first { $0.job == id })
    #expect(claim.limits.memoryBytes == 64 << 20 && claim.limits.wallMilliseconds == 1_000)
    // Beyond what was narrowed it is as it was accepted.
    #expect(claim.limits.pids == 64)
    #expect(claim.policy == narrower && claim.policy != before)
    #expect(sha256Text(claim.policyDocument) == claim.policy.description)
    #expect(try await record(id, by: producer)["attribution"]?["policy"] == .string("\(narrower)"))
    // The deadline is the narrower one, too.
    let left = try await admin(
      "select (deadline_at - claimed_at < '6 minutes'::interval)::text from cordon.lease where job = $1",
      [Parameter("\(id)")])
    #expect(left == ["true"])
  }

  @Test func whatIsNoLongerAllowedIsHeldUntilItIs() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    let big = try await producer.store.enqueue(queue: "default", specification: job(#"{"memory": "1GiB"}"#)).job
    let small = try await producer.store.enqueue(queue: "default", specification: job(#"{"memory": "1MiB"}"#)).job
    let wide = try await boss.store.policyInForce()
    let narrow = try await setPolicy(boss, try await ceilings(["memory": .string("512MiB")]))
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 10)
    #expect(claims.map(\.job) == [small])
    let held = try await record(big, by: producer)
    #expect(held["state"] == .string("held") && held["outcome"] == .null)
    #expect(held["reason"]?.string?.hasPrefix("limits.memory: ") == true)
    #expect(try await producer.column("select j ->> 'job' from cordon.jobs('held') j") == ["\(big)"])
    #expect(try await producer.column("select j ->> 'job' from cordon.jobs('scheduled') j") == [])
    #expect(try await boss.column("select q ->> 'held' from cordon.queues() q") == ["1"])
    // Whatever is asked, nothing brings it to run meanwhile.
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).isEmpty)
    #expect(try await boss.store.setPolicy(wide.document) == wide.digest)
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).map(\.job) == [big])
    #expect(try await record(big, by: producer)["reason"] == .null)
    let noted = try await admin(
      "select detail ->> 'policy' from cordon.audit where what = 'held' and job = $1", [Parameter("\(big)")])
    #expect(noted == ["\(narrow)"])
  }

  @Test func aHeldJobCanBeCancelled() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    let id = try await producer.store.enqueue(queue: "default", specification: job()).job
    _ = try await setPolicy(boss, ["runtimes": .array([.string("exec")])])
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).isEmpty)
    #expect(try await record(id, by: producer)["state"] == .string("held"))
    #expect(try await producer.store.cancel(id) == "cancelled")
    _ = try await setPolicy(boss, ["runtimes": .array([.string("bash")])])
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).isEmpty)
    #expect(try await record(id, by: producer)["outcome"] == .string("cancelled"))
  }

  @Test func bindingsAreJudgedAtTheClaim() async throws {
    let boss = try await Member.make("cordon_operator")
    let (alpha, beta) = (try await Member.producer(tenant: "alpha"), try await Member.producer(tenant: "beta"))
    let worker = try await Member.worker()
    let first = try await alpha.store.enqueue(queue: "default", specification: job(#"{"pids": 50}"#)).job
    let second = try await beta.store.enqueue(queue: "default", specification: job(#"{"pids": 50}"#)).job
    _ = try await boss.store.bindPolicy(#"{"version": 1, "ceilings": {"pids": 8}}"#, tenant: "alpha", queue: nil)
    let third = try await alpha.store.enqueue(queue: "default", specification: job()).job
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 10)
    #expect(Set(claims.map(\.job)) == [second, third])
    #expect(claims.first { $0.job == third }?.limits.pids == 8)
    #expect(try await record(first, by: alpha)["state"] == .string("held"))
    #expect(try await boss.store.unbindPolicy(tenant: "alpha", queue: nil))
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).map(\.job) == [first])
  }

  /// Accepted under a narrow policy, it stays as narrow when a wider one comes.
  @Test func whatWasWidenedStaysAsItWas() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    let wide = try await boss.store.policyInForce()
    let narrow = try await setPolicy(boss, try await ceilings(["memory": .string("64MiB")]))
    let jobs = [
      try await producer.store.enqueue(queue: "default", specification: job()).job,
      try await producer.store.enqueue(queue: "default", specification: job()).job,
    ]
    #expect(try await boss.store.setPolicy(wide.document) == wide.digest)
    for id in jobs {
      // The first finds out, the second is known to stand.
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      #expect(claim.job == id && claim.policy == narrow && claim.limits.memoryBytes == 64 << 20)
    }
    #expect(try await admin("select count(*) from cordon.narrowed") == ["0"])
  }

  /// A claim that came before the change, and has not begun, is taken back; its worker's start is refused.
  @Test func whatHasNotBegunIsClaimedAnew() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    let (going, waiting) = (
      try await producer.store.enqueue(queue: "default", specification: job()).job,
      try await producer.store.enqueue(queue: "default", specification: job()).job
    )
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 10)
    let begun = try #require(claims.first { $0.job == going })
    #expect(try await worker.member.store.start(worker: worker.id, plain([begun])) == [going])
    let digest = try await setPolicy(boss, try await ceilings(["memory": .string("64MiB")]))
    let late = try #require(claims.first { $0.job == waiting })
    #expect(try await worker.member.store.start(worker: worker.id, plain([late])).isEmpty)
    let again = try #require(try await worker.member.store.claim(worker: worker.id, limit: 10).first)
    #expect(again.job == waiting && again.attempt == late.attempt && again.policy == digest)
    #expect(try await worker.member.store.start(worker: worker.id, plain([again])) == [waiting])
    #expect(try await admin("select job::text from cordon.audit where what = 'recalled'") == ["\(waiting)"])
    // And what it had been narrowed to is forgotten where it is wide again before it begins.
    #expect(try await admin("select count(*) from cordon.narrowed") == ["1"])
  }

  /// A worker that lacks a control is given nothing once no policy waives it, whatever the jobs were accepted under.
  @Test func aWaiverThatIsTakenBackIsTakenBack() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    _ = try await setPolicy(boss, ["waivers": .array([.string("uids")])])
    let member = try await Member.make("cordon_worker")
    let worker = try await member.store.registerWorker(
      name: "w", host: "h", build: "b", queues: ["default"], slots: 4, leaseSeconds: 30, missing: ["uids"])
    let id = try await producer.store.enqueue(queue: "default", specification: job()).job
    _ = try await setPolicy(boss, ["waivers": .array([])])
    #expect(try await member.store.claim(worker: worker, limit: 4).isEmpty)
    let whole = try await Member.worker()
    #expect(try await whole.member.store.claim(worker: whole.id, limit: 4).map(\.job) == [id])
  }

  /// Of a tenant whose document does not waive it, too; the job goes to another worker.
  @Test func aWaiverThatATenantDoesNotHave() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    _ = try await setPolicy(boss, ["waivers": .array([.string("uids")])])
    let member = try await Member.make("cordon_worker")
    let worker = try await member.store.registerWorker(
      name: "w", host: "h", build: "b", queues: ["default"], slots: 4, leaseSeconds: 30, missing: ["uids"])
    let id = try await producer.store.enqueue(queue: "default", specification: job()).job
    _ = try await boss.store.bindPolicy(#"{"version": 1, "waivers": []}"#, tenant: "alpha", queue: nil)
    #expect(try await member.store.claim(worker: worker, limit: 4).isEmpty)
    let whole = try await Member.worker()
    #expect(try await whole.member.store.claim(worker: whole.id, limit: 4).map(\.job) == [id])
  }

  /// Claims and changes beside each other: an attempt that begins after a change began under the policy of after it.
  @Test func claimsAndChangesDoNotPassEachOther() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    for _ in 0..<30 {
      _ = try await producer.store.enqueueMany(
        queue: "default", specifications: Array(repeating: job(), count: 100))
    }
    let wide = try await boss.store.policyInForce()
    let narrow = try await PolicyTests.document(try await ceilings(["memory": .string("64MiB")]))
    // When each change was settled, by the database's clock.
    let changes = Task {
      var settled: [String] = []
      for turn in 0..<10 {
        _ = try await boss.store.setPolicy(turn.isMultiple(of: 2) ? narrow : wide.document)
        settled += try await admin("select clock_timestamp()::text").compactMap { $0 }
        try await Task.sleep(for: .milliseconds(100))
      }
      return settled
    }
    var begun = 0
    while true {
      let claims = try await worker.member.store.claim(worker: worker.id, limit: 3)
      guard !claims.isEmpty else { break }
      do {
        begun += try await worker.member.store.start(worker: worker.id, plain(claims)).count
      } catch let error as PostgresError where error.sqlState == "40001" {
        // As the worker does.
        begun += try await worker.member.store.start(worker: worker.id, plain(claims)).count
      }
    }
    let settled = try await changes.value
    // Some were taken back, and claimed again.
    #expect(begun == 3_000)
    // Each row that started between a change and the next one, against what was in force then.
    let wrong = try await admin(
      """
      select l.job::text from cordon.lease l join cordon.job j on j.id = l.job
      left join cordon.narrowed n on n.job = l.job and n.attempt = l.attempt
      join (
        select f.digest, s.at, lead(f.since, 1, 'infinity') over (order by f.id) as until
        from (select f.*, row_number() over (order by f.id) - 1 as turn from cordon.policy_in_force f) f
        left join unnest($2::timestamptz[]) with ordinality s (at, turn) on s.turn = f.turn
      ) f on l.started_at > f.at and l.started_at < f.until
      where f.digest <> $1 and n.policy is null
      """, [Parameter(wide.digest.description), Parameter(settled)])
    #expect(wrong == [])
  }
}
