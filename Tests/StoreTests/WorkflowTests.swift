import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// Jobs that wait for jobs.
@Suite(.migrated) struct WorkflowTests {
  private func put(_ producer: Member, after: [JobID] = [], onFailure: String? = nil) async throws -> JobID {
    try await producer.store.enqueue(
      queue: "default", specification: sleepJob, after: after, onFailure: onFailure
    ).job
  }

  private func state(_ producer: Member, _ job: JobID) async throws -> String? {
    let record = try json(try await producer.store.record(job))
    return record["outcome"]?.string ?? record["state"]?.string
  }

  private func finish(
    _ worker: (member: Member, id: Int64), _ expected: Set<JobID>, outcome: Outcome = .succeeded
  ) async throws {
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 10)
    #expect(Set(claims.map(\.job)) == expected)
    _ = try await worker.member.store.complete(
      worker: worker.id, finished: claims.map { ($0, AttemptReport(outcome: outcome)) })
  }

  @Test func fanOutAndFanIn() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let first = try await put(producer)
    var parts: [JobID] = []
    for _ in 0..<3 { parts.append(try await put(producer, after: [first])) }
    let last = try await put(producer, after: parts)
    #expect(try await state(producer, last) == "blocked")
    #expect(try await producer.store.jobs(state: "blocked").count == 4)
    try await finish(worker, [first])
    try await finish(worker, Set(parts))
    try await finish(worker, [last])
    #expect(
      try await admin("select (select count(*) from cordon.blocked) + (select count(*) from cordon.dependency)") == [
        "0"
      ])
  }

  @Test func aFailureCancelsWhatWaitsForItAndFreesWhatRunsAnyway() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let first = try await put(producer)
    let other = try await put(producer)
    let child = try await put(producer, after: [first, other])
    let grandchild = try await put(producer, after: [child])
    let cleaner = try await put(producer, after: [grandchild], onFailure: "run")
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 10)
    #expect(Set(claims.map(\.job)) == [first, other])
    let failing = try #require(claims.first { $0.job == first })
    #expect(
      try await worker.member.store.complete(
        worker: worker.id, claim: failing, report: AttemptReport(outcome: .failed(code: 1))))
    #expect(try await state(producer, child) == "cancelled")
    #expect(try await state(producer, grandchild) == "cancelled")
    try await finish(worker, [cleaner])
    #expect(try await state(producer, other) == "running", "who did not wait goes on")
  }

  /// Only a job's end counts, not an attempt that is tried again.
  @Test func aRetryIsNoEnd() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let first = try await producer.store.enqueue(
      queue: "default",
      specification: #"{"runtime": "bash", "code": "x", "retry": {"attempts": 2, "backoff": ["1ms"]}}"#
    ).job
    let child = try await put(producer, after: [first])
    try await finish(worker, [first], outcome: .failed(code: 1))
    #expect(try await state(producer, child) == "blocked")
    try await Task.sleep(for: .milliseconds(20))
    try await finish(worker, [first])
    try await finish(worker, [child])
  }

  @Test func cancellingABlockedJobCancelsItsChildren() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let first = try await put(producer)
    let child = try await put(producer, after: [first])
    let grandchild = try await put(producer, after: [child])
    #expect(try await producer.store.cancel(child) == "cancelled")
    #expect(try await state(producer, grandchild) == "cancelled")
    try await finish(worker, [first])
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 5).isEmpty)
  }

  @Test func whatIsOverNeedsNoWaiting() async throws {
    let producer = try await Member.producer()
    let stranger = try await Member.producer(tenant: "beta")
    let worker = try await Member.worker()
    let good = try await put(producer)
    try await finish(worker, [good])
    let bad = try await put(producer)
    try await finish(worker, [bad], outcome: .timedOut)
    #expect(try await state(producer, try await put(producer, after: [good])) == "queued")
    let error = try await refusal { try await put(producer, after: [good, bad]) }
    #expect(error.message.hasPrefix("after[1]: job \(bad) is over and did not succeed"))
    #expect(try await state(producer, try await put(producer, after: [bad], onFailure: "run")) == "queued")
    #expect(try await refusal { try await put(stranger, after: [good]) }.sqlState == "CD404")
    #expect(
      try await refusal { try await put(producer, after: [good], onFailure: "maybe") }.message
        .hasPrefix("on_failure:"))
  }

  /// The parent ends while the transaction that enqueues its child is open: neither sees the other.
  @Test func aChildWhoseParentEndedBeforeItsCommitIsFreed() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let parent = try await put(producer)
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    let (member, id) = (worker.member, worker.id)
    let connection = try await Connection.connect(Database.current.settings(user: producer.role))
    try await connection.execute(
      script: """
        begin;
        select cordon.enqueue('default', '\(sleepJob)', after => array['\(parent)'::uuid]);
        """)
    #expect(try await member.store.complete(worker: id, claim: claim, report: .succeeded()))
    try await connection.execute(script: "commit")
    await connection.close()
    #expect(try await member.store.claim(worker: id, limit: 1).count == 1)
  }

  /// Two parents that end at once, in two transactions, again and again: the child is freed, and once.
  @Test func parentsThatEndAtOnceFreeTheirChildOnce() async throws {
    let producer = try await Member.producer()
    let first = try await Member.worker()
    let second = try await Member.worker()
    for _ in 0..<25 {
      let parents = [try await put(producer), try await put(producer)]
      let child = try await put(producer, after: parents)
      let one = try await first.member.store.claim(worker: first.id, limit: 1)
      let two = try await second.member.store.claim(worker: second.id, limit: 1)
      async let endOfOne = first.member.store.complete(worker: first.id, finished: one.map { ($0, .succeeded()) })
      async let endOfTwo = second.member.store.complete(worker: second.id, finished: two.map { ($0, .succeeded()) })
      _ = try await (endOfOne, endOfTwo)
      try await finish(first, [child])
    }
  }

  /// What a commit itself hides is found by the next rescue.
  @Test func aRescueFindsWhatEverybodyMissed() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let parent = try await put(producer)
    let child = try await put(producer, after: [parent])
    try await Database.current.execute("alter table cordon.attempt disable trigger settle")
    try await finish(worker, [parent])
    try await Database.current.execute("alter table cordon.attempt enable trigger settle")
    #expect(try await state(producer, child) == "blocked")
    _ = try await worker.member.store.rescue(limit: 100)
    try await finish(worker, [child])
  }

  @Test func aWorkerReadsOnlyWhatItsJobNames() async throws {
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    let parent = try await put(producer)
    let other = try await put(producer)
    let child = try await producer.store.enqueue(
      queue: "default",
      specification: #"{"runtime": "bash", "code": "x", "inputs": {"a": {"result": "\#(parent)"}}}"#, after: [parent]
    ).job
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 2)
    for claim in claims where claim.job == parent {
      _ = try await worker.member.store.complete(
        worker: worker.id, claim: claim, report: .succeeded(.object(["sum": .integer(3)])))
    }
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(claim.job == child && claim.specification?.inputs == ["a": .result(parent.description)])
    let made = try await worker.member.store.readMade(worker: worker.id, claim: claim, parent: parent)
    #expect(made?.result == #"{"sum": 3}"# && made?.attempt == 1)
    let error = try await refusal {
      try await worker.member.store.readMade(worker: worker.id, claim: claim, parent: other)
    }
    #expect(error.sqlState == "42501")
    let stranger = try await Member.producer(tenant: "beta")
    let foreign = try await refusal {
      try await stranger.store.enqueue(
        queue: "default", specification: #"{"runtime": "bash", "code": "x", "inputs": {"a": {"result": "\#(parent)"}}}"#
      )
    }
    #expect(foreign.message == "inputs.a.result: there is no job \(parent)")
  }
}
