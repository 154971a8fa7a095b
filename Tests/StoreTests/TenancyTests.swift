import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

@Suite(.migrated) struct TenancyTests {
  /// What another tenant's job answers must be what a job that never was answers.
  @Test func otherTenantsDoNotExist() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let job = try await alpha.store.enqueue(queue: "default", specification: sleepJob).job
    let nobody = try #require(JobID("00000000-0000-7000-8000-000000000000"))
    for target in [job, nobody] {
      for call: @Sendable () async throws -> Void in [
        { _ = try await beta.store.record(target) }, { _ = try await beta.store.cancel(target) },
        { _ = try await beta.store.logs(target) },
      ] {
        let error = try await refusal(call)
        #expect(error.sqlState == "CD404")
        #expect(error.message == "job: there is no job \(target)")
      }
    }
    #expect(try await beta.store.jobs() == [])
    // Nor does a queue tell that others use it, or that it is there.
    for name in ["default", "no-such-queue"] { #expect(try await beta.store.jobs(queue: name) == []) }
    #expect(try await alpha.store.jobs().count == 1)
    #expect(try json(try await alpha.store.record(job))["state"]?.string == "queued")

    // Who may see everything does.
    let auditor = try await Member.make("cordon_auditor")
    #expect(try await auditor.store.jobs().count == 1)
    let queue = try await refusal { try await auditor.store.jobs(queue: "no-such-queue") }
    #expect(queue.message.hasPrefix("queue: "))
    let refused = try await refusal { try await auditor.store.cancel(job) }
    #expect(refused.sqlState == "42501")
    let operatorRole = try await Member.make("cordon_operator")
    #expect(try await operatorRole.store.cancel(job) == "cancelled")
  }

  /// A reading function that forgets to filter: what it may see is its session's tenant all the same.
  @Test func aForgottenFilterShowsNothingOfOthers() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let auditor = try await Member.make("cordon_auditor")
    let tables = [
      "job", "attempt", "lease", "lane", "ready", "scheduled", "blocked", "dead_letter", "schedule", "log_chunk",
    ]
    // A job of alpha's in every state, with a line of its log, and a schedule.
    let (member, worker) = try await Member.worker()
    _ = try await alpha.store.enqueue(queue: "default", specification: sleepJob)
    let failed = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    #expect(
      try await member.store.complete(worker: worker, claim: failed, report: AttemptReport(outcome: .failed(code: 1))))
    let running = try await alpha.store.enqueue(queue: "default", specification: sleepJob).job
    let held = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    #expect(held.job == running)
    #expect(try await member.store.start(worker: worker, plain([held])) == [running])
    #expect(
      try await member.store.appendLog(worker: worker, claim: held, stream: "stdout", sequence: 0, bytes: [0x78]))
    _ = try await alpha.store.enqueue(queue: "default", specification: sleepJob, after: [running])
    _ = try await alpha.store.enqueue(queue: "default", specification: sleepJob)
    _ = try await alpha.store.enqueue(
      queue: "default", specification: sleepJob, runAt: Date(timeIntervalSinceNow: 3600))
    try await alpha.store.setSchedule(
      "nightly", document: #"{"cron": "0 3 * * *", "zone": "UTC", "specification": \#(sleepJob)}"#)
    for table in tables {
      try await Database.current.execute(
        """
        grant create on schema cordon to cordon_reader;
        create function cordon.every_\(table)() returns bigint language sql security definer
          set search_path = cordon, pg_temp as 'select count(*) from \(table)';
        alter function cordon.every_\(table)() owner to cordon_reader;
        grant execute on function cordon.every_\(table)() to cordon_producer, cordon_auditor;
        revoke create on schema cordon from cordon_reader
        """)
      func seen(_ member: Member) async throws -> Int {
        Int(try await member.column("select cordon.every_\(table)()::text")[0] ?? "") ?? -1
      }
      #expect(try await seen(alpha) > 0, "\(table): the control has a row of alpha's")
      #expect(try await seen(auditor) > 0, "\(table): who sees all is shown it")
      #expect(try await seen(beta) == 0, "\(table)")
    }
  }

  @Test func blobsBelongToATenant() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let bytes = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let digest = try await alpha.store.putBlob(bytes)
    #expect(try await alpha.store.putBlob(bytes) == digest)
    #expect(try await admin("select count(*) from cordon.blob_chunk") == ["3"])
    let named = #"{"runtime": "bash", "code": "", "inputs": {"a": {"blob": "\#(digest)"}}}"#
    let error = try await refusal { try await beta.store.enqueue(queue: "default", specification: named) }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("inputs.a.blob: "))

    _ = try await alpha.store.enqueue(queue: "default", specification: named)
    let unnamed = try await alpha.store.putBlob([1, 0, 2])
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(try await worker.member.store.readBlob(worker: worker.id, claim: claim, digest: digest) == bytes)
    let other = try await refusal {
      try await worker.member.store.readBlob(worker: worker.id, claim: claim, digest: unnamed)
    }
    #expect(other.sqlState == "42501")
    #expect(try await worker.member.store.complete(worker: worker.id, claim: claim, report: .succeeded()))
    let late = try await refusal {
      try await worker.member.store.readBlob(worker: worker.id, claim: claim, digest: digest)
    }
    #expect(late.sqlState == "42501")
  }

  @Test func blobsOfEverySizeComeBack() async throws {
    let alpha = try await Member.producer()
    let worker = try await Member.worker()
    for size in [0, 1, 262_143, 262_144, 262_145, 5 << 20] {
      let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ size) }
      let digest = try await alpha.store.putBlob(bytes)
      _ = try await alpha.store.enqueue(
        queue: "default", specification: #"{"runtime": "python3", "code": {"blob": "\#(digest)"}}"#)
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      #expect(try await worker.member.store.readBlob(worker: worker.id, claim: claim, digest: digest) == bytes)
    }
    let error = try await refusal { try await alpha.store.putBlob([UInt8](repeating: 0, count: (64 << 20) + 1)) }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("bytes: "))
  }

  /// A role can state nothing about itself: not by SET ROLE, not by search_path, not in the specification.
  @Test func attributionIsTheSessions() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let other = try await Member.producer(tenant: "beta")
    try await Database.current.execute("grant \(other.role) to \(alpha.role)")
    let id = try await alpha.pool.withConnection { connection in
      try await connection.execute(
        script: """
          set role \(other.role); create temp table principal (role name, tenant text, queues text[]);
          insert into pg_temp.principal values ('\(alpha.role)', 'beta', null);
          set search_path = pg_temp, cordon;
          create function pg_temp.session_user() returns name language sql as $$ select 'postgres'::name $$;
          """)
      return try await connection.query(
        Statement(name: "enqueue_sql", sql: "select cordon.enqueue('default', $1::jsonb)::text as id"),
        [Parameter(sleepJob)]
      ).first?.get("id", as: String.self)
    }
    let job = try #require(id.flatMap { JobID($0) })
    let record = try json(try await Member.superuser.store.record(job))
    #expect(record["attribution"]?["enqueued_by"]?.string == alpha.role)
    #expect(record["tenant"]?.string == "alpha")
  }

  @Test func withoutAPrincipalNothingIsEnqueued() async throws {
    let stranger = try await Member.make("cordon_producer")
    let error = try await refusal { try await stranger.store.enqueue(queue: "default", specification: sleepJob) }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("principal: "))
    let blob = try await refusal { try await stranger.store.putBlob([1]) }
    #expect(blob.sqlState == "42501")
    #expect(try await stranger.store.jobs() == [])
  }

  @Test func principalsAreRestrictedToTheirQueues() async throws {
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addQueue(name: "slow")
    try await boss.store.addQueue(name: "slow")
    let producer = try await Member.make("cordon_producer")
    try await boss.store.addPrincipal(role: producer.role, tenant: "alpha", queues: ["slow"])
    let error = try await refusal { try await producer.store.enqueue(queue: "default", specification: sleepJob) }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("queue: "))
    _ = try await producer.store.enqueue(queue: "slow", specification: sleepJob)

    let fast = try await Member.worker(queues: ["default"])
    #expect(try await fast.member.store.claim(worker: fast.id, limit: 5).isEmpty)
    let restricted = try await Member.make("cordon_worker")
    try await boss.store.addPrincipal(role: restricted.role, tenant: nil, queues: ["default"])
    let refused = try await refusal {
      try await restricted.store.registerWorker(
        name: "r", host: "h", build: "b", queues: ["slow"], slots: 1, leaseSeconds: 30)
    }
    #expect(refused.sqlState == "42501")

    // Restricted after it registered: the next claim knows.
    let slow = try await Member.worker(queues: ["slow", "default"])
    try await boss.store.addPrincipal(role: slow.member.role, tenant: "beta")
    #expect(try await slow.member.store.claim(worker: slow.id, limit: 5).isEmpty)
    try await boss.store.addPrincipal(role: slow.member.role, tenant: nil)
    #expect(try await slow.member.store.claim(worker: slow.id, limit: 5).count == 1)
  }

  @Test func operatorsCannotNameWhatIsNotThere() async throws {
    let boss = try await Member.make("cordon_operator")
    let role = try await refusal { try await boss.store.addPrincipal(role: "no_such_role", tenant: "alpha") }
    #expect(role.sqlState == "22023" && role.message.hasPrefix("role: "))
    for tenant in ["", ".", "../x", "a/b", "a b", "-x", String(repeating: "a", count: 64)] {
      let error = try await refusal { try await boss.store.addPrincipal(role: boss.role, tenant: tenant) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("tenant: "))
    }
    let empty = try await refusal { try await boss.store.addPrincipal(role: boss.role, tenant: "a", queues: []) }
    #expect(empty.sqlState == "22023" && empty.message.hasPrefix("queues: "))
  }

  /// A worker belongs to the role that registered it.
  @Test func workersOfOtherRolesAreRefused() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let mine = try await Member.worker()
    let claim = try #require(try await mine.member.store.claim(worker: mine.id, limit: 1).first)
    let thief = try await Member.make("cordon_worker").store
    let id = mine.id
    for call: @Sendable () async throws -> Void in [
      { _ = try await thief.claim(worker: id, limit: 1) }, { _ = try await thief.start(worker: id, plain([claim])) },
      { _ = try await thief.heartbeat(worker: id, held: []) },
      { _ = try await thief.complete(worker: id, claim: claim, report: .succeeded()) },
      { try await thief.release(worker: id, claims: [claim], started: false, reason: "x") },
      { _ = try await thief.appendLog(worker: id, claim: claim, stream: "stdout", sequence: 0, bytes: [1]) },
      { _ = try await thief.published(worker: id, [(claim.job, 1)]) }, { try await thief.retireWorker(id) },
    ] {
      let error = try await refusal(call)
      #expect(error.sqlState == "CD410" && error.message.hasPrefix("worker: "))
    }
    // With a worker of its own, the token of another's lease is worth nothing.
    let other = try await Member.worker()
    #expect(try await other.member.store.start(worker: other.id, plain([claim])).isEmpty)
    #expect(try await other.member.store.complete(worker: other.id, claim: claim, report: .succeeded()) == false)
    #expect(try await mine.member.store.complete(worker: mine.id, claim: claim, report: .succeeded()))
  }
}
