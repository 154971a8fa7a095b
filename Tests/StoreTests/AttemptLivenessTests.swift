import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What the issuer's introspection relies on: an attempt lives from its start to the transaction that ends it, and no longer.
@Suite(.migrated) struct AttemptLivenessTests {
  struct Scene {
    let producer: Member
    let worker: (member: Member, id: Int64)
    let introspector: Member
    let claim: Claim

    func isLive(attempt: Int? = nil, token: Int64? = nil, job: JobID? = nil) async throws -> Bool {
      try await introspector.store.attemptIsLive(
        job: job ?? claim.job, attempt: attempt ?? claim.attempt, token: token ?? claim.token
      ).isLive
    }
  }

  private func scene(start: Bool = true, leaseSeconds: Double = 30) async throws -> Scene {
    let producer = try await Member.producer()
    let worker = try await Member.worker(leaseSeconds: leaseSeconds)
    _ = try await producer.store.enqueue(
      queue: "default", specification: #"{"runtime": "bash", "code": "sleep 1", "retry": {"attempts": 3}}"#)
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    if start { #expect(try await worker.member.store.start(worker: worker.id, plain([claim])) == [claim.job]) }
    return Scene(
      producer: producer, worker: worker, introspector: try await Member.make("cordon_introspector"), claim: claim)
  }

  @Test("an attempt lives from its start to its end, and the clock is the database's")
  func life() async throws {
    let scene = try await scene(start: false)
    let store = scene.worker.member.store
    #expect(try await !scene.isLive(), "claimed and not begun")
    #expect(try await store.start(worker: scene.worker.id, plain([scene.claim])) == [scene.claim.job])
    #expect(try await scene.isLive())
    let clock = "select extract(epoch from clock_timestamp())::float8::text"
    func now() async throws -> Double {
      let text = try #require(try await admin(clock).first)
      return try #require(text.flatMap(Double.init))
    }
    let before = try await now()
    let asOf = try await scene.introspector.store.attemptIsLive(
      job: scene.claim.job, attempt: scene.claim.attempt, token: scene.claim.token
    ).asOf
    let after = try await now()
    #expect(before - 0.001 <= asOf.timeIntervalSince1970 && asOf.timeIntervalSince1970 <= after + 0.001)
    #expect(try await store.complete(worker: scene.worker.id, claim: scene.claim, report: .succeeded()))
    #expect(try await !scene.isLive())
  }

  @Test("another attempt, another fencing token and another job are not this one")
  func others() async throws {
    let scene = try await scene()
    #expect(try await scene.isLive())
    #expect(try await !scene.isLive(attempt: scene.claim.attempt + 1))
    #expect(try await !scene.isLive(token: scene.claim.token + 1))
    #expect(try await !scene.isLive(job: JobID("00000000-0000-7000-8000-000000000000")))
  }

  @Test("an attempt is over in the very transaction that completes it, and for others with its commit")
  func completion() async throws {
    let scene = try await scene()
    try await Database.current.execute("grant cordon_introspector to \(scene.worker.member.role)")
    let connection = try await Database.current.connect(user: scene.worker.member.role)
    let question = "cordon.attempt_is_live('\(scene.claim.job)', \(scene.claim.attempt), \(scene.claim.token))"
    func ask() async throws -> Bool {
      let rows = try await connection.query(Statement(name: "ask", sql: "select \(question) as live"), [])
      return try #require(rows.first).get("live")
    }
    try await connection.execute(script: "begin")
    #expect(try await ask())
    try await connection.execute(
      script: """
        select cordon.complete(\(scene.worker.id), array['\(scene.claim.job)']::uuid[], array[\(scene.claim.token)]::bigint[],
          array['{"outcome": "succeeded", "exit_code": 0}'], array[null]::text[])
        """)
    #expect(try await !ask())
    #expect(try await scene.isLive(), "what is not committed has not happened")
    try await connection.execute(script: "commit")
    #expect(try await !scene.isLive())
    await connection.close()
  }

  @Test("a token of attempt n is dead once the lease is lost, and stays so when attempt n+1 lives")
  func nextAttempt() async throws {
    let scene = try await scene()
    _ = try await admin("update cordon.worker set seen_at = now() - interval '1 minute' returning 1::text")
    // Before anybody has rescued it.
    #expect(try await !scene.isLive())
    let second = try await Member.worker()
    #expect(try await second.member.store.rescue(limit: 10) == 1)
    _ = try await admin("select cordon.promote(10)::text")
    let again = try #require(try await second.member.store.claim(worker: second.id, limit: 1).first)
    #expect(again.job == scene.claim.job && again.attempt == scene.claim.attempt + 1)
    #expect(try await second.member.store.start(worker: second.id, plain([again])) == [again.job])
    #expect(try await scene.isLive(attempt: again.attempt, token: again.token))
    #expect(try await !scene.isLive())
    // A worker that is heard again does not bring its attempt back.
    _ = try await scene.worker.member.store.heartbeat(worker: scene.worker.id, held: [])
    #expect(try await !scene.isLive())
    #expect(try await !scene.isLive(attempt: again.attempt), "the old fencing token under the new number")
  }

  @Test func aDeadlineThatHasPassedEndsIt() async throws {
    let scene = try await scene()
    _ = try await admin("update cordon.lease set deadline_at = now() - interval '1 millisecond' returning 1::text")
    #expect(try await !scene.isLive())
  }

  @Test func aCancelEndsItBeforeTheWorkerHasHeard() async throws {
    let scene = try await scene()
    _ = try await scene.producer.store.cancel(scene.claim.job)
    #expect(try await !scene.isLive())
  }

  @Test("what is frozen is dead, and lives again when it is lifted; what is drained lives; what is killed is dead")
  func revocation() async throws {
    let scene = try await scene()
    let boss = try await Member.make("cordon_operator").store
    _ = try await boss.revoke(.tenant, "alpha", mode: .freeze, reason: "a look")
    #expect(try await !scene.isLive())
    _ = try await boss.revoke(.tenant, "alpha", mode: .drain, reason: "a look")
    #expect(try await scene.isLive())
    _ = try await boss.revoke(.tenant, "alpha", mode: .kill, reason: "enough")
    #expect(try await !scene.isLive())
  }

  @Test("nobody else may ask, and who may ask can do nothing else")
  func rights() async throws {
    let scene = try await scene()
    for group in ["cordon_producer", "cordon_worker", "cordon_operator", "cordon_auditor"] {
      let member = try await Member.make(group)
      let error = try await refusal {
        try await member.store.attemptIsLive(job: scene.claim.job, attempt: 1, token: scene.claim.token)
      }
      #expect(error.sqlState == "42501", "\(group)")
      await member.pool.close()
    }
    let error = try await refusal { try await scene.introspector.store.record(scene.claim.job) }
    #expect(error.sqlState == "42501")
    #expect(
      try await admin(
        "select rolcanlogin or rolsuper or rolcreaterole or rolbypassrls from pg_roles where rolname = 'cordon_introspector'"
      )
        == ["f"])
  }

  /// A session that asked when the tables were empty goes on to find one row by its key.
  @Test func thePlanIsPinned() async throws {
    let rows = try await admin(
      "select proconfig::text from pg_proc where oid = 'cordon.attempt_is_live(uuid, int, bigint, text[])'::regprocedure"
    )
    for setting in ["jit", "enable_seqscan", "enable_bitmapscan", "enable_mergejoin"] {
      #expect(rows.first??.contains("\(setting)=off") == true, "\(setting)")
    }
  }
}
