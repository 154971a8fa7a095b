import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What is over is dropped by weeks, and nothing that lives with it.
@Suite(.migrated) struct RetentionTests {
  /// A job of `weeks` ago that ended, in partitions of its own.
  private func old(_ weeks: Int, outcome: String = "succeeded", policy: Digest? = nil) async throws -> String {
    let made = try await admin(
      """
      with week as (select to_timestamp(floor(extract(epoch from now()) / 604800 - $1::int) * 604800) as begins)
      select format('job_%1$s attempt_%1$s log_chunk_%1$s', to_char(begins at time zone 'UTC', 'YYYYMMDD')) from week
      """, [Parameter(weeks)])
    for name in try #require(made[0]).split(separator: " ") {
      let parent = name.prefix { !$0.isNumber }.dropLast()
      try await Database.current.execute(
        """
        set role cordon_owner; set search_path = cordon, pg_temp;
        create table if not exists \(name) (like \(parent) including defaults including constraints);
        do $$ declare begins timestamptz := to_date('\(name.suffix(8))', 'YYYYMMDD')::timestamp at time zone 'UTC'; begin
          execute format('alter table \(parent) attach partition \(name) for values from (%L) to (%L)',
            uuid7_floor(begins), uuid7_floor(begins + interval '7 days'));
        exception when duplicate_table or object_not_in_prerequisite_state or wrong_object_type
          or invalid_object_definition then null; end $$
        """)
    }
    return try #require(
      try await admin(
        """
        with made as (
          insert into cordon.job (id, tenant, queue, priority, specification, limits, policy, max_attempts, margin_ms,
            enqueued_at)
          select cordon.uuid7(cordon.micros(now() - make_interval(weeks => $1::int))), 'alpha', 1, 4,
            '{"runtime": "bash", "code": "x"}', '{"wall_ms": 1, "grace_ms": 1}', digest, 1, 1, now()
          from cordon.policy where digest = coalesce($3, digest) limit 1 returning id, tenant, queue
        ), ended as (
          insert into cordon.attempt (job, attempt, final, via, tenant, queue, outcome)
          select id, 1, true, 'complete', tenant, queue, $2 from made
        ), logged as (
          insert into cordon.log_chunk (job, attempt, sequence, stream, bytes) select id, 1, 0, 'stdout', 'x' from made
        )
        select id::text from made
        """, [Parameter(weeks), Parameter(outcome), Parameter(policy?.description)])[0])
  }

  private func exists(_ job: String) async throws -> [String?] {
    try await admin(
      """
      select (select count(*) from cordon.job where id = $1::uuid)
        || '-' || (select count(*) from cordon.attempt where job = $1::uuid)
        || '-' || (select count(*) from cordon.log_chunk where job = $1::uuid)
      """, [Parameter(job)])
  }

  @Test func weeksGoByClassWhenTheyAreOldEnough() async throws {
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.make("cordon_worker")
    let (ancient, recent) = (try await old(20), try await old(6))
    #expect(try await worker.store.applyRetention() == [], "nobody has said how long")
    try await boss.store.setRetention(.logs, seconds: 28 * 86_400)
    #expect(try await worker.store.applyRetention().count == 2)
    #expect(try await exists(ancient) == ["1-1-0"])
    #expect(try await exists(recent) == ["1-1-0"])
    try await boss.store.setRetention(.jobs, seconds: 90 * 86_400)
    #expect(try await worker.store.applyRetention().count == 2)
    #expect(try await exists(ancient) == ["0-0-0"])
    #expect(try await exists(recent) == ["1-1-0"])
    #expect(try await admin("select count(*) from cordon.audit where what = 'retention_dropped'") == ["4"])
    #expect(try await refusal { try await boss.store.setRetention(.jobs, seconds: 60) }.sqlState == "22023")
    #expect(try await refusal { try await worker.store.setRetention(.jobs, seconds: nil) }.sqlState == "42501")
  }

  /// What the jobs' own policies say counts, for weeks as wholes, and beyond what operators say.
  @Test func aPolicyKeepsTheWeeksOfItsJobs() async throws {
    let boss = try await Member.make("cordon_operator")
    func keeping(_ jobs: Int, _ logs: Int) async throws -> Digest {
      let terms = JSONValue.object(["jobs": .string("\(jobs)d"), "logs": .string("\(logs)d")])
      return try await boss.store.setPolicy(try await PolicyTests.document(["retention": terms]))
    }
    let plain = try await boss.store.policyInForce().digest
    // Twenty weeks are 140 days, and a week's end is up to seven of them later.
    let (long, short, logsAlone) = (try await keeping(365, 30), try await keeping(100, 1), try await keeping(1, 365))
    let strict = try await old(20, policy: long)
    let beside = try await old(20, policy: plain)
    let (over, other) = (try await old(22, policy: short), try await old(24, policy: plain))
    let told = try await old(26, policy: logsAlone)
    let narrowed = try await old(28, policy: plain)
    _ = try await admin(
      "insert into cordon.narrowed (job, attempt, policy) values ($1::uuid, 1, $2) returning job::text",
      [Parameter(narrowed), Parameter(long.description)])
    try await boss.store.setRetention(.jobs, seconds: 30 * 86_400)
    try await boss.store.setRetention(.logs, seconds: 7 * 86_400)
    let before = try await boss.store.retained()
    // Two weeks go whole (jobs, attempts, logs), of two the logs.
    #expect(try await boss.store.applyRetention().count == 2 * 3 + 2)
    #expect(try await exists(strict) == ["1-1-0"])
    #expect(try await exists(beside) == ["1-1-0"])
    #expect(try await exists(over) == ["0-0-0"])
    #expect(try await exists(other) == ["0-0-0"])
    #expect(try await exists(told) == ["1-1-1"], "without its jobs nobody could say what keeps a log")
    #expect(try await exists(narrowed) == ["1-1-0"], "an attempt ran under that")
    let kept = try await boss.store.retained().filter { $0.contains("policy \(long) keeps it until ") }
    #expect(kept.count == 2 && kept.allSatisfy { $0.contains(#""class": "jobs""#) })
    // The same is told before and after it was noted, and what was noted is not looked for again.
    #expect(before.filter { $0.contains("policy \(long) keeps it until ") } == kept)
    #expect(try await admin("select count(*) from cordon.kept_week") == ["4"])
    #expect(try await boss.store.applyRetention() == [])
    // The time that was noted is over.
    _ = try await admin("update cordon.kept_week set until = now() - interval '1 second' returning policy")
    #expect(try await boss.store.applyRetention() == [], "a note alone does not decide")
    #expect(try await admin("select count(*) from cordon.kept_week where until > now()") == ["4"])
  }

  /// To look may be to read all of it, each time.
  @Test func aWeekThatSomethingAliveKeepsIsNotLookedAtForPolicies() async throws {
    let boss = try await Member.make("cordon_operator")
    let terms = JSONValue.object(["jobs": .string("365d")])
    let job = try await old(
      20, policy: try await boss.store.setPolicy(try await PolicyTests.document(["retention": terms])))
    try await boss.store.setRetention(.jobs, seconds: 30 * 86_400)
    _ = try await admin("insert into cordon.ready values (1, 1, 1, $1::uuid, 0) returning job::text", [Parameter(job)])
    #expect(try await boss.store.applyRetention() == [])
    #expect(try await admin("select count(*) from cordon.kept_week") == ["0"])
    _ = try await admin("delete from cordon.ready returning job::text")
    #expect(try await boss.store.applyRetention() == [])
    #expect(try await admin("select class from cordon.kept_week") == ["jobs"])
  }

  /// One that waits, or a dead letter that nobody has looked at, keeps its week.
  @Test(arguments: ["ready", "scheduled", "lease", "dead letter", "credential_given"])
  func aWeekWithALiveRowStays(_ kind: String) async throws {
    let boss = try await Member.make("cordon_operator")
    let job = try await old(20, outcome: kind == "dead letter" ? "failed" : "succeeded")
    let insert: String? =
      switch kind {
      case "ready": "insert into cordon.ready values (1, 1, 1, $1::uuid, 0) returning job::text"
      case "scheduled": "insert into cordon.scheduled values (now(), $1::uuid, 1, 1, 1, 0) returning job::text"
      case "lease":
        """
        insert into cordon.lease (job, token, worker, attempt, queue, lane, rank, tenant, deadline_at)
        values ($1::uuid, 1, 1, 1, 1, 1, 1, 'alpha', now()) returning job::text
        """
      case "credential_given":
        """
        insert into cordon.credential_given (job, attempt, credential, version, kind, token)
        values ($1::uuid, 1, 'ledger', 'cordon_job_1_a', 'login', 1) returning job::text
        """
      default: nil
      }
    if let insert { _ = try await admin(insert, [Parameter(job)]) }
    try await boss.store.setRetention(.jobs, seconds: 30 * 86_400)
    #expect(try await boss.store.applyRetention() == [])
    #expect(try await exists(job) == ["1-1-1"])
    let why = try json(try #require(try await boss.store.retained().first { $0.contains("jobs") }))
    #expect(why["due"] == .bool(true) && why["because"]?.string != nil)
    // The control: without it the week goes.
    if kind == "dead letter" {
      try await boss.store.discard(try #require(JobID(job)))
    } else {
      _ = try await admin("delete from cordon.\(kind) returning job::text")
    }
    #expect(try await boss.store.applyRetention().count == 2)
    #expect(try await exists(job) == ["0-0-1"])
  }
}
