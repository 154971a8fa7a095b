import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

@Suite(.migrated) struct LeaseTests {
  /// Two workers that claim at once share thousands of jobs without one twice.
  @Test func concurrentClaimsNeverShareAJob() async throws {
    let total = 3_000
    let producer = try await Member.producer()
    let jobs = try await producer.store.enqueueMany(
      queue: "default", specifications: Array(repeating: sleepJob, count: total))
    // All there before the first claims, which else has everything by the time the second comes.
    var workers: [(member: Member, id: Int64)] = []
    for _ in 0..<4 { workers.append(try await Member.worker()) }
    let claimed = try await withThrowingTaskGroup(of: [Claim].self) { group in
      for worker in workers {
        group.addTask {
          var mine: [Claim] = []
          while true {
            let batch = try await worker.member.store.claim(worker: worker.id, limit: 17)
            if batch.isEmpty { return mine }
            mine += batch
          }
        }
      }
      return try await group.reduce(into: [[Claim]]()) { $0.append($1) }
    }
    let all = claimed.flatMap { $0 }
    #expect(all.count == total)
    #expect(Set(all.map(\.job)) == Set(jobs))
    #expect(Set(all.map(\.token)).count == total)
    #expect(claimed.filter { !$0.isEmpty }.count > 1, "one worker took everything, so nothing was shown")
    #expect(try await admin("select count(*) from cordon.ready") == ["0"])
  }

  @Test func orderIsPriorityThenTime() async throws {
    let producer = try await Member.producer()
    var expected: [(priority: Int, job: JobID)] = []
    for priority in [4, 9, 0, 4, 0, 9, 5] {
      expected.append(
        (
          priority,
          try await producer.store.enqueue(queue: "default", specification: sleepJob, priority: priority).job
        ))
    }
    let worker = try await Member.worker()
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 100)
    let sorted = expected.enumerated().sorted { ($0.element.priority, $0.offset) < ($1.element.priority, $1.offset) }
    #expect(claims.map(\.job) == sorted.map(\.element.job))
  }

  @Test func wholeLifeOfAJob() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    #expect(claim.job == job && claim.attempt == 1 && claim.tenant == "alpha" && claim.enqueuedBy == producer.role)
    #expect(claim.specification?.code == .text("sleep 1"))
    #expect(try await member.store.start(worker: id, plain([claim])) == [job])
    #expect(try await member.store.start(worker: id, plain([claim])) == [job])
    #expect(try await member.store.heartbeat(worker: id, held: [(job, claim.token)]) == [:])
    let running = try json(try await producer.store.record(job))
    #expect(running["state"]?.string == "running")
    #expect(running["attribution"]?["host"]?.string == "host.example")
    #expect(running["started_at"]?.string?.hasSuffix("Z") == true)
    #expect(running["outcome"] == .null)

    let bytes: [UInt8] = [0, 0xFF, 0x1B, 10]
    for (sequence, stream) in ["stdout", "stderr", "stdout", "stdout"].enumerated() {
      let kept = try await member.store.appendLog(
        worker: id, claim: claim, stream: stream, sequence: Int64(sequence), bytes: bytes + [UInt8(sequence)])
      #expect(kept)
    }
    // The same piece again, after an acknowledgement that never came.
    #expect(try await member.store.appendLog(worker: id, claim: claim, stream: "stdout", sequence: 3, bytes: [9]))

    var report = AttemptReport.succeeded(.object(["agree": .integer(854), "share": .number(0.5)]))
    report.artifacts = [Artifact(path: "a\0b", bytes: 3, sha256: claim.policy)]
    report.isolation = Isolation(cgroup: "v2", namespaces: ["mnt"], filter: claim.policy, uid: 70_000)
    report.notes = ["pids_limit"]
    #expect(try await member.store.complete(worker: id, claim: claim, report: report))
    let record = try json(try await producer.store.record(job))
    #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "succeeded")
    #expect(record["exit_code"] == .integer(0) && record["signal"] == .null && record["attempt"] == .integer(1))
    #expect(record["result"] == .object(["agree": .integer(854), "share": .number(0.5)]))
    #expect(record["stdout"] == .object(["bytes": .integer(12), "truncated": .bool(true)]))
    #expect(record["usage"]?["wall_seconds"] == .number(0.25))
    #expect(record["artifacts"]?.array?.first?["path"]?.string == "a\u{FFFD}b")
    #expect(record["attribution"]?["worker"]?.string == "w#\(id)")
    #expect(record["attribution"]?["worker_role"]?.string == member.role)
    #expect(record["attribution"]?["build"]?.string == "sha256:build")
    #expect(record["attribution"]?["policy"]?.string == claim.policy.description)
    #expect(record["attribution"]?["isolation"]?["uid"] == .integer(70_000))
    #expect(record["notes"] == .array([.string("pids_limit")]))
    #expect(record["attempts"]?.array?.count == 1)
    let names = ["published", "reason", "quarantined", "enqueued_at", "started_at", "finished_at", "tenant", "stderr"]
    for name in names { #expect(record[name] != nil, "\(name) is missing") }

    let logs = try await producer.store.logs(job)
    #expect(logs.map(\.sequence) == [0, 1, 2, 3])
    #expect(logs.map(\.bytes) == (0..<4).map { bytes + [UInt8($0)] })
    #expect(logs.map(\.stream) == ["stdout", "stderr", "stdout", "stdout"])
    #expect(try await producer.store.logs(job, attempt: 1, after: 1, limit: 1).map(\.sequence) == [2])
    let unknown = try await refusal { try await producer.store.record(job, attempt: 2) }
    #expect(unknown.sqlState == "CD404")
  }

  /// The policy travels with the claim in the bytes its digest names.
  @Test func policyIsNamedByItsBytes() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    let digest = try await admin(
      "select 'sha256:' || encode(sha256(convert_to($1::text, 'UTF8')), 'hex')", [Parameter(claim.policyDocument)])
    #expect(digest == [claim.policy.description])
    #expect(try json(claim.policyDocument)["lease"]?["attempts"] == .integer(5))
  }

  @Test func staleTokensAreRefusedAndAudited() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let first = try await Member.worker(leaseSeconds: 0.2)
    let claim = try #require(try await first.member.store.claim(worker: first.id, limit: 1).first)
    #expect(try await first.member.store.start(worker: first.id, plain([claim])) == [job])
    try await Task.sleep(for: .milliseconds(300))

    let second = try await Member.worker()
    #expect(try await second.member.store.rescue(limit: 10) == 1)
    #expect(try await second.member.store.rescue(limit: 10) == 0)
    let again = try #require(try await second.member.store.claim(worker: second.id, limit: 1).first)
    #expect(again.job == job && again.attempt == 2 && again.token != claim.token)

    // The first worker wakes up.
    let store = first.member.store
    #expect(try await store.heartbeat(worker: first.id, held: [(job, claim.token)]) == [claim.token: .lost])
    #expect(try await store.start(worker: first.id, plain([claim])).isEmpty)
    #expect(
      try await store.appendLog(worker: first.id, claim: claim, stream: "stdout", sequence: 0, bytes: [1]) == false)
    #expect(try await store.complete(worker: first.id, claim: claim, report: .succeeded(.string("stale"))) == false)
    try await store.release(worker: first.id, claims: [claim], started: true, reason: "late")
    #expect(try json(try await producer.store.record(job))["state"]?.string == "running")

    #expect(
      try await second.member.store.complete(worker: second.id, claim: again, report: .succeeded(.string("true"))))
    #expect(try await store.complete(worker: first.id, claim: claim, report: .succeeded(.string("stale"))) == false)
    let record = try json(try await producer.store.record(job))
    #expect(record["result"]?.string == "true" && record["attempt"] == .integer(2))
    #expect(record["attempts"]?.array?.map { $0["outcome"]?.string } == ["lost", "succeeded"])
    #expect(record["attempts"]?.array?.map { $0["final"] } == [.bool(false), .bool(true)])
    #expect(try await admin("select count(*) from cordon.attempt where final") == ["1"])
    #expect(try json(try await producer.store.record(job, attempt: 1))["outcome"]?.string == "lost")
    let trail = try await admin(
      """
      select concat_ws(' ', what, worker, attempt) from cordon.audit where job is not null order by id
      """)
    let late = "late \(first.id) 1"
    #expect(trail == ["started \(first.id) 1", "rescued \(first.id) 1", late, late, late])
  }

  /// A commit whose acknowledgement was lost is asked for again; the answer is the same and nothing is written twice.
  @Test func completionCanBeRepeated() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    for _ in 0..<2 { #expect(try await member.store.complete(worker: id, claim: claim, report: .succeeded())) }
    #expect(try await admin("select count(*) from cordon.attempt") == ["1"])
    #expect(try await admin("select count(*) from cordon.audit where what = 'late'") == ["0"])
  }

  /// Many completions, rescues and cancels race; every job ends with one final attempt.
  @Test func oneFinalAttemptUnderRaces() async throws {
    let producer = try await Member.producer()
    let jobs = try await producer.store.enqueueMany(
      queue: "default", specifications: Array(repeating: sleepJob, count: 200))
    let workers = [
      try await Member.worker(leaseSeconds: 0.1), try await Member.worker(leaseSeconds: 0.1),
      try await Member.worker(leaseSeconds: 0.1),
    ]
    try await withThrowingTaskGroup(of: Void.self) { group in
      for worker in workers {
        group.addTask {
          let store = worker.member.store
          var idle = 0
          while idle < 10 {
            let claims = try await store.claim(worker: worker.id, limit: 20)
            idle = claims.isEmpty ? idle + 1 : 0
            _ = try await store.start(worker: worker.id, plain(claims))
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...150)))
            _ = try await store.rescue(limit: 7)
            _ = try await store.complete(worker: worker.id, finished: claims.map { ($0, .succeeded()) })
          }
        }
      }
      group.addTask {
        for job in jobs where job.hashValue % 3 == 0 { _ = try await producer.store.cancel(job) }
      }
      try await group.waitForAll()
    }
    let finals = try await admin(
      "select count(*) || ' ' || count(distinct job) from cordon.attempt where final")
    let open = try await admin("select (select count(*) from cordon.ready) + (select count(*) from cordon.lease)")
    #expect(finals == ["200 200"])
    #expect(open == ["0"])
  }

  @Test func attemptsEnd() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    for attempt in 1...5 {
      let worker = try await Member.worker()
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      #expect(claim.attempt == attempt)
      // Leaving with a lease is being gone.
      try await worker.member.store.retireWorker(worker.id)
      #expect(try await worker.member.store.rescue(limit: 10) == 1)
    }
    let record = try json(try await producer.store.record(job))
    #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "lost")
    #expect(record["attempt"] == .integer(5))
    #expect(record["attribution"]?["host"]?.string == "host.example", "attribution outlives the worker")
    #expect(try await admin("select count(*) from cordon.ready") == ["0"])
  }

  /// A worker that cannot say how the job ended reports it lost; another attempt follows, unless it was cancelled.
  @Test func lostReportsGoBackToTheQueue() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    for attempt in 1...2 {
      let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
      #expect(claim.attempt == attempt)
      if attempt == 2 { #expect(try await producer.store.cancel(job) == "cancelling") }
      #expect(try await member.store.complete(worker: id, claim: claim, report: AttemptReport(outcome: .lost)))
      let record = try json(try await producer.store.record(job))
      #expect(record["state"]?.string == (attempt == 1 ? "queued" : "finished"))
      #expect(record["attempt"] == .integer(2))
      #expect(record["attempts"]?.array?.last?["final"] == .bool(attempt == 2))
    }
    #expect(try await member.store.claim(worker: id, limit: 1).isEmpty)
  }

  /// A heartbeat keeps the lease; only the hard deadline ends it then.
  @Test func deadlineEndsALeaseOfALivingWorker() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    _ = try await member.store.start(worker: id, plain([claim]))
    #expect(try await member.store.rescue(limit: 10) == 0)
    // wall 5 min, grace 2 s, margin 5 min after the start.
    let due = try await admin("select extract(epoch from deadline_at - started_at)::int from cordon.lease")
    #expect(due == ["602"])
    _ = try await admin("update cordon.lease set deadline_at = now() - interval '1 second' returning job::text")
    #expect(try await member.store.rescue(limit: 10) == 1)
    #expect(try await member.store.heartbeat(worker: id, held: [(job, claim.token)]) == [claim.token: .lost])
  }

  @Test func releaseGivesBack() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let first = try #require(try await member.store.claim(worker: id, limit: 1).first)
    try await member.store.release(worker: id, claims: [first], started: false, reason: "no slot")
    let second = try #require(try await member.store.claim(worker: id, limit: 1).first)
    #expect(second.attempt == 1, "an attempt that never began does not count")
    _ = try await member.store.start(worker: id, plain([second]))
    try await member.store.release(worker: id, claims: [second], started: true, reason: "drain")
    let third = try #require(try await member.store.claim(worker: id, limit: 1).first)
    #expect(third.attempt == 2)
    #expect(try await producer.store.cancel(job) == "cancelling")
    try await member.store.release(worker: id, claims: [third], started: false, reason: "drain")
    #expect(try await member.store.claim(worker: id, limit: 1).isEmpty)
    let record = try json(try await producer.store.record(job))
    #expect(record["outcome"]?.string == "cancelled" && record["state"]?.string == "finished")
    #expect(record["attempts"]?.array?.map { $0["outcome"]?.string } == ["lost", "cancelled"])
  }

  /// What jsonb cannot hold is no reason for a completion to fail.
  @Test(arguments: ["\"\\u0000\"", "1e131071", "1e99999999", "[", "", "{\"a\": \"x\\u0000y\"}"])
  func resultsThatCannotBeStored(_ text: String) async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    let recorded = try await member.column(
      """
      select recorded::text from cordon.complete($1::bigint, array[$2::uuid], array[$3::bigint],
        array['{"outcome": "succeeded", "exit_code": 0}'], array[$4::text])
      """, [Parameter(id), Parameter(job.description), Parameter(claim.token), Parameter(text)])
    #expect(recorded == ["true"])
    let record = try json(try await producer.store.record(job))
    #expect(record["outcome"]?.string == "succeeded" && record["result"] == .null)
    #expect(record["reason"]?.string == "result_invalid")
  }

  @Test func resultsWithNULAreReportedThroughTheStore() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    var report = AttemptReport.succeeded(.string("a\0b"))
    report.reason = "said\0"
    #expect(try await member.store.complete(worker: id, claim: claim, report: report))
    let record = try json(try await producer.store.record(job))
    #expect(record["reason"]?.string == "said\u{FFFD}; result_invalid")
  }

  @Test func reportsOfNoOutcomeAreRefused() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    var report = AttemptReport.succeeded()
    report.outcome = "excellent"
    let wrong = report
    let error = try await refusal { try await member.store.complete(worker: id, claim: claim, report: wrong) }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("report.outcome: "))
    #expect(try await member.store.complete(worker: id, claim: claim, report: .succeeded()))
  }
}
