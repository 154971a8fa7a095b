import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What hostile producers, workers and readers try against the queue, by the numbers of the list of attacks. Each has its
/// control: the same call by who may.
@Suite(.migrated) struct QueueAttackTests {
  private static let injections = [
    "'; drop table cordon.job; --", "\" or 1=1; --", "$$; select pg_sleep(60); $$", "\\'; delete from cordon.lease; --",
    "default', 'x') ; update cordon.queue set state = 'paused' ; --", "%s %I %L", "\u{202e}tluafed", "a\nb\rc",
    String(repeating: "(", count: 5_000), "*?{}[]|&;<>`$(reboot)",
  ]

  @Test("QU-01: text in every field is data", arguments: injections)
  func injection(_ text: String) async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let quoted = String(decoding: try JSONEncoder().encode(JSONValue.string(text)), as: UTF8.self)
    let specification = """
      {"runtime": "bash", "code": \(quoted), "args": [\(quoted)], "stdin": \(quoted), "params": \(quoted),
       "labels": {"x": \(String(decoding: try JSONEncoder().encode(JSONValue.string(String(text.prefix(200)))), as: UTF8.self))}}
      """
    let short = String(text.prefix(200))
    let job = try await producer.store.enqueue(
      queue: "default", specification: specification, key: short, lane: short
    ).job
    #expect(try await producer.store.enqueue(queue: "default", specification: specification, key: short).job == job)
    // Names that are not data are refused in words about the field.
    for call: @Sendable () async throws -> Void in [
      { _ = try await producer.store.enqueue(queue: text, specification: sleepJob) },
      { _ = try await producer.store.enqueue(queue: "default", specification: sleepJob, key: "k2", keyScope: text) },
      { _ = try await producer.store.jobs(state: text) }, { try await boss.store.addQueue(name: text) },
      { try await boss.store.limitTenant(text, maxRunning: 1) },
      { try await boss.store.resetBreaker(tenant: text, code: Digest("sha256:" + String(repeating: "0", count: 64))!) },
    ] {
      let error = try await refusal(call)
      #expect(["22023", "42501"].contains(error.sqlState), "\(error)")
      #expect(!error.message.contains { $0.isNewline })
    }
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(claim.job == job && claim.specification?.args == [text] && claim.specification?.stdin == text)
    #expect(try await admin("select state from cordon.queue") == ["open"])
  }

  @Test(
    "QU-02: what a producer says about itself is refused by name",
    arguments: ["submitted_by", "enqueued_by", "tenant", "attempt", "policy", "policy_hash", "id", "worker"])
  func forgedAttribution(_ member: String) async throws {
    let producer = try await Member.producer()
    let error = try await refusal {
      try await producer.store.enqueue(
        queue: "default", specification: #"{"runtime": "bash", "code": "x", "\#(member)": "root"}"#)
    }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("\(member): unknown member"))
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let record = try json(try await producer.store.record(job))
    #expect(record["attribution"]?["enqueued_by"]?.string == producer.role && record["tenant"]?.string == "alpha")
  }

  @Test("QU-04: another tenant's job answers like one that never was, in as long")
  func otherTenants() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let (member, worker) = try await Member.worker()
    var jobs: [JobID] = []
    for _ in 0..<40 { jobs.append(try await alpha.store.enqueue(queue: "default", specification: sleepJob).job) }
    let claim = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    _ = try await member.store.complete(
      worker: worker, claim: claim, report: AttemptReport(outcome: .failed(code: 1)))
    let nobody = jobs.map { JobID($0.description.dropLast(8) + "00000000")! }
    for call: @Sendable (JobID) async throws -> Void in [
      { _ = try await beta.store.retry($0) }, { try await beta.store.discard($0) },
      { try await beta.store.snooze($0, until: Date(timeIntervalSinceNow: 60)) },
      { _ = try await beta.store.enqueue(queue: "default", specification: sleepJob, after: [$0]) },
    ] {
      for target in [claim.job, jobs[1], nobody[0]] {
        let error = try await refusal { try await call(target) }
        #expect(error.sqlState == "CD404" && error.message.hasSuffix("there is no job \(target)"))
      }
    }
    // Interleaved, the least, to which a busy machine has added nothing: both look one id up in one index.
    var times: [[Double]] = [[], []]
    for (foreign, absent) in zip(jobs, nobody) {
      for (index, target) in [foreign, absent].enumerated() {
        let start = ContinuousClock.now
        _ = try await refusal { try await beta.store.record(target) }
        times[index].append((ContinuousClock.now - start) / .seconds(1))
      }
    }
    let least = try times.map { try #require($0.min()) }
    #expect((0.5...2).contains(least[0] / least[1]), "\(least)")
    _ = try await alpha.store.retry(claim.job)
  }

  @Test("QU-06, QU-07, QU-08: only who holds the lease ends it, once, and late words are noted")
  func completions() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let (first, one) = try await Member.worker()
    let (second, two) = try await Member.worker()
    let claim = try #require(try await first.store.claim(worker: one, limit: 1).first)
    #expect(try await !second.store.complete(worker: two, claim: claim, report: .succeeded()), "another worker's job")
    #expect(
      try await refusal { try await second.store.complete(worker: one, claim: claim, report: .succeeded()) }
        .sqlState == "CD410", "in another worker's name")
    try await first.store.release(worker: one, claims: [claim], started: true, reason: "x")
    let again = try #require(try await second.store.claim(worker: two, limit: 1).first)
    #expect(try await !first.store.complete(worker: one, claim: claim, report: .succeeded()), "after the lease is lost")
    #expect(try await second.store.complete(worker: two, claim: again, report: .succeeded()))
    #expect(try await second.store.complete(worker: two, claim: again, report: .succeeded()), "twice is once")
    #expect(try await admin("select count(*) from cordon.attempt where final") == ["1"])
    #expect(try await admin("select count(*) from cordon.audit where what = 'late'") == ["2"])
  }

  @Test("QU-09: a worker is given only its tenant's jobs from queues it is enrolled for")
  func enrolment() async throws {
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addQueue(name: "other")
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let own = try await alpha.store.enqueue(queue: "default", specification: sleepJob).job
    _ = try await alpha.store.enqueue(queue: "other", specification: sleepJob)
    _ = try await beta.store.enqueue(queue: "default", specification: sleepJob)
    let member = try await Member.make("cordon_worker")
    try await boss.store.addPrincipal(role: member.role, tenant: "alpha", queues: ["default"])
    let foreign = try await refusal {
      try await member.store.registerWorker(
        name: "w", host: "h", build: "b", queues: ["other"], slots: 5, leaseSeconds: 30)
    }
    #expect(foreign.sqlState == "42501")
    let id = try await member.store.registerWorker(
      name: "w", host: "h", build: "b", queues: ["default"], slots: 5, leaseSeconds: 30)
    let lanes = try await admin("select id::text from cordon.lane").compactMap { $0.flatMap { Int32($0) } }
    let known = lanes.map { KnownLane(lane: $0, floor: .min) }
    // Also when it names the lanes of others itself.
    #expect(try await member.store.claim(worker: id, limit: 5, search: .known(known)).map(\.job) == [own])
    #expect(try await member.store.claim(worker: id, limit: 5).isEmpty)
  }

  @Test("QU-21: a priority above what the role was given is refused")
  func priorities() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addPrincipal(role: producer.role, tenant: "alpha", firstPriority: 4)
    let error = try await refusal {
      try await producer.store.enqueue(queue: "default", specification: sleepJob, priority: 3)
    }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("priority: 3 is more urgent than the 4"))
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob, priority: 4)
  }

  @Test("QU-22: a tenant that enqueues very many makes the others wait for its share only")
  func flood() async throws {
    let flood = try await Member.producer(tenant: "flood")
    let other = try await Member.producer(tenant: "other")
    for _ in 0..<20 {
      _ = try await flood.store.enqueueMany(
        queue: "default", specifications: Array(repeating: sleepJob, count: 500), priority: 0)
    }
    let job = try await other.store.enqueue(queue: "default", specification: sleepJob, priority: 9).job
    let (member, worker) = try await Member.worker()
    var behind: Int32 = 0
    var before = 0
    for _ in 0..<3 {
      let claims = try await member.store.claim(worker: worker, limit: 10, search: .look(behind: behind))
      behind = try #require(claims.last).lane
      if claims.contains(where: { $0.job == job }) { break }
      before += claims.count
    }
    #expect(before <= 10, "\(before) of 10000 went first")
  }

  @Test("QU-29: a policy that is widened after a job was accepted does not widen the job's")
  func pinnedPolicy() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let before = try await boss.store.policyInForce()
    let wider = before.document.replacingOccurrences(of: "\"memory\":\"8GiB\"", with: "\"memory\":\"9GiB\"")
    #expect(wider != before.document)
    _ = try await boss.store.setPolicy(wider)
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let (member, worker) = try await Member.worker()
    let claims = try await member.store.claim(worker: worker, limit: 2)
    #expect(Set(claims.map(\.policyDocument)) == [before.document, wider])
    #expect(try await refusal { try await producer.store.setPolicy(wider) }.sqlState == "42501")
  }

  @Test("QU-30: notifications are hints; a flood of false ones gives nobody anything")
  func notifications() async throws {
    let producer = try await Member.producer()
    let (member, worker) = try await Member.worker()
    for channel in ["cordon_ready", "cordon_cancel"] {
      for _ in 0..<100 {
        _ = try await producer.column("select pg_notify($1, 'default')::text", [Parameter(channel)])
      }
    }
    #expect(try await member.store.claim(worker: worker, limit: 5).isEmpty)
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    #expect(try await member.store.claim(worker: worker, limit: 5).map(\.job) == [job])
    #expect(try await member.store.heartbeat(worker: worker, held: []).isEmpty, "a false cancel cancels nothing")
  }

  @Test("QU-34: an input names only what the tenant made")
  func foreignArtifacts() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let job = try await alpha.store.enqueue(queue: "default", specification: sleepJob).job
    let specification = #"{"runtime": "bash", "code": "x", "inputs": {"a": {"artifact": "\#(job)/x"}}}"#
    let error = try await refusal { try await beta.store.enqueue(queue: "default", specification: specification) }
    #expect(error.message == "inputs.a.artifact: there is no job \(job)")
    _ = try await alpha.store.enqueue(queue: "default", specification: specification)
  }

  @Test("QU-35: a producer's open transaction and its locks hold up no claim and no completion")
  func openTransactions() async throws {
    let producer = try await Member.producer()
    let other = try await Member.producer()
    let (member, worker) = try await Member.worker()
    let first = try await other.store.enqueue(queue: "default", specification: sleepJob).job
    let connection = try await Connection.connect(Database.current.settings(user: producer.role))
    try await connection.execute(
      script: """
        begin isolation level repeatable read;
        select cordon.enqueue('default', '\(sleepJob)', key => 'held', lane => 'new');
        select cordon.enqueue('default', '\(sleepJob)', after => array['\(first)'::uuid]);
        """)
    let start = ContinuousClock.now
    let claim = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    #expect(claim.job == first)
    #expect(try await member.store.complete(worker: worker, claim: claim, report: .succeeded()))
    #expect(try await member.store.rescue(limit: 10) == 0)
    #expect(ContinuousClock.now - start < .seconds(5))
    try await connection.execute(script: "rollback")
    await connection.close()
    #expect(try await admin("select count(*) from cordon.job") == ["1"])
  }
}
