import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// Attempts that end without a worker's report, and what stays of them.
@Suite(.migrated) struct HandBackTests {
  private func job(_ producer: Member) async throws -> JobID {
    try await producer.store.enqueue(queue: "default", specification: sleepJob).job
  }

  private func claim(_ worker: (member: Member, id: Int64)) async throws -> Claim {
    try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
  }

  /// A worker that fails at the same thing again and again runs a job as often as the policy says, not for ever.
  @Test(arguments: [true, false]) func releasedAttemptsRunOut(_ workerSaysSo: Bool) async throws {
    let producer = try await Member.producer()
    let job = try await job(producer)
    let worker = try await Member.worker()
    for attempt in 1...5 {
      let claim = try await claim(worker)
      #expect(claim.attempt == attempt)
      // Either the start is on record, or the worker says that there was one.
      if !workerSaysSo { _ = try await worker.member.store.start(worker: worker.id, plain([claim])) }
      try await worker.member.store.release(
        worker: worker.id, claims: [claim], started: workerSaysSo, reason: "artifacts: no space")
    }
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 1).isEmpty)
    let record = try json(try await producer.store.record(job))
    #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "lost")
    #expect(record["reason"]?.string == "artifacts: no space" && record["attempt"] == .integer(5))
    #expect(record["attempts"]?.array?.map { $0["final"] } == [false, false, false, false, true].map { .bool($0) })
    #expect(try await admin("select count(*) from cordon.ready") == ["0"])
  }

  @Test func attemptsThatNeverBeganDoNotRunOut() async throws {
    let producer = try await Member.producer()
    let job = try await job(producer)
    let worker = try await Member.worker()
    for _ in 1...7 {
      let claim = try await claim(worker)
      #expect(claim.job == job && claim.attempt == 1)
      try await worker.member.store.release(worker: worker.id, claims: [claim], started: false, reason: "no slot")
    }
    #expect(try json(try await producer.store.record(job))["attempts"]?.array?.isEmpty == true)
  }

  /// The answer to a claim was lost, or that to an end: the worker lives, but does not know what it holds. What began counts.
  @Test func claimsNeverHeardOfGoBack() async throws {
    let producer = try await Member.producer()
    let jobs = [try await job(producer), try await job(producer), try await job(producer), try await job(producer)]
    let worker = try await Member.worker()
    let store = worker.member.store
    let claims = try await store.claim(worker: worker.id, limit: 4)
    let (known, started, unheard, unwanted) = (claims[0], claims[1], claims[2], claims[3])
    _ = try await store.start(worker: worker.id, plain([started]))
    #expect(try await producer.store.cancel(unwanted.job) == "cancelling")
    // A young lease may be one whose answer is still under way; those of others are none of ours.
    let other = try await Member.worker()
    let elsewhere = try await job(producer)
    let foreign = try await claim(other)
    #expect(foreign.job == elsewhere)
    try await age(leasesTo: 15)
    #expect(try await store.heartbeat(worker: worker.id, held: [(known.job, known.token)]) == [:])
    #expect(try await admin("select count(*) from cordon.lease") == ["5"])

    try await age(leasesTo: 31)
    #expect(try await store.heartbeat(worker: worker.id, held: [(known.job, known.token)]) == [:])
    let states = try await producer.store.jobs().map { try json($0)["state"]?.string }
    #expect(states == ["running", "finished", "queued", "queued", "running"])
    #expect(jobs == claims.map(\.job))
    let cancelled = try json(try await producer.store.record(unwanted.job))
    #expect(cancelled["outcome"]?.string == "cancelled")
    #expect(cancelled["reason"]?.string == "claim was never acknowledged")
    let again = try await store.claim(worker: worker.id, limit: 4)
    #expect(Set(again.map(\.job)) == [unheard.job, started.job])
    #expect(again.map { $0.job == unheard.job ? $0.attempt == 1 : $0.attempt == 2 } == [true, true])
    #expect(again.allSatisfy { $0.token != unheard.token && $0.token != started.token })
    let trail = try await admin(
      "select concat_ws(' ', what, attempt, detail ->> 'reason') from cordon.audit where job = $1::uuid",
      [Parameter(unheard.job.description)])
    #expect(trail == ["released 1 claim was never acknowledged"])
  }

  /// A short lease does not make an answer that is a little slow a lost one.
  @Test func claimsOfShortLeasesGetTime() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker(leaseSeconds: 1)
    _ = try await job(producer)
    _ = try await claim(worker)
    try await age(leasesTo: 1)
    _ = try await worker.member.store.heartbeat(worker: worker.id, held: [])
    #expect(try await admin("select count(*) from cordon.lease") == ["1"])
    try await age(leasesTo: 6)
    _ = try await worker.member.store.heartbeat(worker: worker.id, held: [])
    #expect(try await admin("select count(*) from cordon.lease") == ["0"])
  }

  /// What ran is on record while it runs, and when nobody says how it ended.
  @Test(arguments: ["release", "cancel", "rescue"]) func attributionSurvives(_ end: String) async throws {
    let producer = try await Member.producer()
    let job = try await job(producer)
    let worker = try await Member.worker()
    let store = worker.member.store
    let claim = try await claim(worker)
    let facts = StartAttribution(
      code: claim.policy, inputs: [InputFacts(name: "prices.csv", sha256: claim.policy, bytes: 7)],
      isolation: Isolation(cgroup: "v2", namespaces: ["mnt"], filter: claim.policy, uid: nil))
    #expect(try await store.start(worker: worker.id, [(claim, facts)]) == [job])
    // The same start again, after an acknowledgement that never came.
    #expect(try await store.start(worker: worker.id, [(claim, facts)]) == [job])
    func expectFacts(_ attempt: Int?) async throws {
      let attribution = try json(try await producer.store.record(job, attempt: attempt))["attribution"]
      #expect(attribution?["code"]?.string == claim.policy.description)
      #expect(attribution?["inputs"]?.array?.first?["name"]?.string == "prices.csv")
      #expect(attribution?["isolation"]?["cgroup"]?.string == "v2")
      #expect(attribution?["isolation"]?["uid"] == .null, "not known yet, and not missing")
    }
    try await expectFacts(nil)
    switch end {
    case "release":
      try await store.release(worker: worker.id, claims: [claim], started: true, reason: "drain")
    case "cancel":
      #expect(try await producer.store.cancel(job) == "cancelling")
      try await store.release(worker: worker.id, claims: [claim], started: true, reason: "drain")
    default:
      try await store.retireWorker(worker.id)
      #expect(try await store.rescue(limit: 1) == 1)
    }
    try await expectFacts(1)
    #expect(
      try json(try await producer.store.record(job, attempt: 1))["outcome"]?.string
        == (end == "cancel" ? "cancelled" : "lost"))
  }

  /// A report knows more than the start did.
  @Test func reportsReplaceTheStartsAttribution() async throws {
    let producer = try await Member.producer()
    let job = try await job(producer)
    let worker = try await Member.worker()
    let claim = try await claim(worker)
    _ = try await worker.member.store.start(worker: worker.id, [(claim, StartAttribution(code: claim.policy))])
    #expect(try await worker.member.store.complete(worker: worker.id, claim: claim, report: .succeeded()))
    let record = try json(try await producer.store.record(job))
    #expect(record["attribution"]?["code"] == .null && record["attribution"]?["isolation"] == .null)
  }

  @Test func attributionIsAnObject() async throws {
    let worker = try await Member.worker()
    let error = try await refusal {
      try await worker.member.column(
        "select cordon.start($1::bigint, '{}', '{}', array['[1]'])::text", [Parameter(worker.id)])
    }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("attribution: "))
  }

  /// Which directories beneath an approved root a record vouches for.
  @Test func publishedDirectoriesAreJudged() async throws {
    let producer = try await Member.producer()
    let (finished, lost, waiting, scheduled) = (
      try await job(producer), try await job(producer), try await job(producer), try await job(producer)
    )
    let worker = try await Member.worker()
    let store = worker.member.store
    let claims = try await store.claim(worker: worker.id, limit: 3)
    #expect(claims.map(\.job) == [finished, lost, waiting])
    _ = try await store.start(worker: worker.id, plain(Array(claims[0...1])))
    let before = try await store.published(worker: worker.id, [(finished, 1), (lost, 1), (scheduled, 1)])
    #expect(before == [.open, .open, .open])

    var report = AttemptReport.succeeded()
    report.published = "/srv/artifacts/alpha/\(finished)/1"
    #expect(try await store.complete(worker: worker.id, claim: claims[0], report: report))
    try await store.release(worker: worker.id, claims: [claims[1]], started: true, reason: "killed")
    try await store.release(worker: worker.id, claims: [claims[2]], started: false, reason: "no slot")
    #expect(try await producer.store.cancel(scheduled) == "cancelled")
    let nobody = try #require(JobID("00000000-0000-7000-8000-000000000000"))
    let asked = [
      (nobody, 1), (lost, 2), (lost, 1), (finished, 1), (finished, 2), (waiting, 1), (scheduled, 1), (lost, 1),
      (lost, Int.max),
    ]
    let verdicts: [PublishedVerdict] = [.unknown, .open, .dead, .published, .dead, .open, .dead, .dead, .open]
    #expect(try await store.published(worker: worker.id, asked) == verdicts)
    // The next attempt is claimed: its own directory is open, the first's is as dead as before.
    let next = try await store.claim(worker: worker.id, limit: 1)
    #expect(next.first?.job == lost)
    #expect(try await store.published(worker: worker.id, [(lost, 1), (lost, 2)]) == [.dead, .open])
    #expect(try await store.published(worker: worker.id, []) == [])

    // A worker of one tenant learns nothing of another's jobs.
    let bound = try await Member.worker()
    try await Member.superuser.store.addPrincipal(role: bound.member.role, tenant: "beta")
    #expect(
      try await bound.member.store.published(worker: bound.id, [(finished, 1), (lost, 1)]) == [.unknown, .unknown])
  }
}
