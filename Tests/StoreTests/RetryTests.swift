import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What follows an attempt that did not succeed.
@Suite(.migrated) struct RetryTests {
  private func job(_ retry: String) -> String { #"{"runtime": "bash", "code": "exit 1", "retry": \#(retry)}"# }

  private func failed(_ code: String? = nil) -> AttemptReport {
    AttemptReport(outcome: .failed(code: 1), code: code.flatMap { Digest($0) })
  }

  /// Lets what waits for its time be due now.
  private func hurry() async throws {
    _ = try await admin("update cordon.scheduled set run_at = clock_timestamp() returning job::text")
  }

  @Test func aFailedJobIsTriedAgainAsOftenAsItSays() async throws {
    let producer = try await Member.producer()
    let id = try await producer.store.enqueue(
      queue: "default", specification: job(#"{"attempts": 3, "backoff": "fixed", "delay": "1h", "jitter": 0}"#)
    ).job
    let (member, worker) = try await Member.worker()
    for attempt in 1...3 {
      let claim = try #require(try await member.store.claim(worker: worker, limit: 5).first)
      #expect(claim.job == id && claim.attempt == attempt)
      #expect(try await member.store.complete(worker: worker, claim: claim, report: failed()))
      let record = try json(try await producer.store.record(id))
      guard attempt < 3 else {
        #expect(record["state"]?.string == "finished" && record["attempt"] == .integer(3))
        break
      }
      #expect(record["state"]?.string == "scheduled" && record["attempt"] == .integer(Int64(attempt + 1)))
      let wait = try await admin(
        "select (run_at - clock_timestamp()) between interval '59 minutes' and interval '1 hour' from cordon.scheduled")
      #expect(wait == ["t"])
      #expect(try await member.store.claim(worker: worker, limit: 5).isEmpty, "not before its delay is over")
      try await hurry()
    }
    #expect(try await member.store.claim(worker: worker, limit: 5).isEmpty)
    #expect(try await admin("select final::text from cordon.attempt order by attempt") == ["false", "false", "true"])
  }

  /// The control: without `retry`, and for an outcome that it does not name.
  @Test(arguments: [nil, #"{"attempts": 3, "on": ["timed_out"]}"#, #"{"attempts": 3, "on": []}"#])
  func aFailureThatNobodyAskedToRetryIsFinal(_ retry: String?) async throws {
    let producer = try await Member.producer()
    let text = retry.map(job) ?? #"{"runtime": "bash", "code": "exit 1"}"#
    let id = try await producer.store.enqueue(queue: "default", specification: text).job
    let (member, worker) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    #expect(try await member.store.complete(worker: worker, claim: claim, report: failed()))
    #expect(try json(try await producer.store.record(id))["state"]?.string == "finished")
  }

  @Test func aCancelledJobIsNotTriedAgain() async throws {
    let producer = try await Member.producer()
    let id = try await producer.store.enqueue(queue: "default", specification: job(#"{"attempts": 3}"#)).job
    let (member, worker) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    #expect(try await member.store.start(worker: worker, plain([claim])) == [id])
    #expect(try await producer.store.cancel(id) == "cancelling")
    #expect(try await member.store.complete(worker: worker, claim: claim, report: failed()))
    #expect(try json(try await producer.store.record(id))["state"]?.string == "finished")
  }

  @Test(arguments: [
    (#"{"attempts": 5, "backoff": "exponential", "delay": "10s", "longest": "30s", "jitter": 0}"#, [10, 20, 30, 30]),
    (#"{"attempts": 5, "backoff": "fixed", "delay": "7s", "jitter": 0}"#, [7, 7, 7, 7]),
    (#"{"attempts": 5, "backoff": ["1s", "2m"], "jitter": 0}"#, [1, 120, 120, 120]),
    (#"{"attempts": 5, "jitter": 0}"#, [10, 20, 40, 80]),
  ])
  func delaysAreTheseWithoutJitter(_ retry: String, _ seconds: [Int]) async throws {
    let delays = try await admin(
      """
      select round(extract(epoch from cordon.retry_delay(cordon.read_retry('', $1::jsonb), n)))::text
      from generate_series(1, 4) n
      """, [Parameter(retry)])
    #expect(delays == seconds.map { String($0) })
  }

  @Test func jitterIsAShareOfTheDelay() async throws {
    let bounds = try await admin(
      """
      select (min(d) >= 5 and max(d) <= 10 and max(d) - min(d) > 2)::text from (
        select extract(epoch from cordon.retry_delay(
          cordon.read_retry('', '{"attempts": 2, "backoff": "fixed", "delay": "10s", "jitter": 0.5}'), 1)) as d
        from generate_series(1, 200)) x
      """)
    #expect(bounds == ["true"])
  }

  @Test(arguments: [
    (#"{}"#, "retry.attempts: is missing"),
    (#"{"attempts": 0}"#, "retry.attempts: 0 is not 1 to 100"),
    (#"{"attempts": 2.5}"#, "retry.attempts: 2.5 is not 1 to 100"),
    (#"{"attempts": 2, "again": true}"#, "retry.again: unknown member"),
    (#"{"attempts": 2, "on": ["succeeded"]}"#, "retry.on[0]:"),
    (#"{"attempts": 2, "backoff": "linear"}"#, "retry.backoff: \"linear\" is unknown"),
    (#"{"attempts": 2, "backoff": ["1s", 5]}"#, "retry.backoff[1]: 5 is no duration"),
    (#"{"attempts": 2, "backoff": ["1s"], "delay": "1s"}"#, "retry: delay and longest are for"),
    (#"{"attempts": 2, "delay": "31d"}"#, "retry.delay: \"31d\" is more than 30d"),
    (#"{"attempts": 2, "jitter": 1.5}"#, "retry.jitter: 1.5 is not 0 to 1"),
    (#"3"#, "retry: 3 is no object"),
  ])
  func whatIsNoRetryIsRefused(_ retry: String, _ message: String) async throws {
    let producer = try await Member.producer()
    let error = try await refusal {
      try await producer.store.enqueue(queue: "default", specification: job(retry))
    }
    #expect(error.sqlState == "22023" && error.message.hasPrefix(message), "\(error.message)")
  }

  @Test func deadLettersAreRetriedOnceOrDiscarded() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let stranger = try await Member.producer(tenant: "beta")
    let (member, worker) = try await Member.worker()
    var ids: [JobID] = []
    for _ in 0..<2 { ids.append(try await producer.store.enqueue(queue: "default", specification: sleepJob).job) }
    let fine = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    for claim in try await member.store.claim(worker: worker, limit: 3) {
      let report = claim.job == fine ? AttemptReport.succeeded() : failed()
      #expect(try await member.store.complete(worker: worker, claim: claim, report: report))
    }
    let listed = try await producer.store.deadLetters().map { try json($0) }
    #expect(Set(listed.compactMap { $0["job"]?.string }) == Set(ids.map(\.description)))
    #expect(listed.allSatisfy { $0["outcome"]?.string == "failed" && $0["exit_code"] == .integer(1) })
    #expect(try await boss.store.deadLetters().count == 2)
    #expect(try await stranger.store.deadLetters().isEmpty)
    #expect(try await refusal { try await stranger.store.retry(ids[0]) }.sqlState == "CD404")

    let again = try await boss.store.retry(ids[0])
    let record = try json(try await producer.store.record(again))
    #expect(record["state"]?.string == "queued" && record["tenant"]?.string == "alpha")
    #expect(record["attribution"]?["enqueued_by"]?.string == boss.role, "who asked is the operator")
    #expect(record["attribution"]?["retry_of"]?.string == ids[0].description)
    #expect(
      try await admin("select retry_of::text from cordon.job where id = $1", [Parameter(again.description)])
        == [ids[0].description])
    #expect(try await refusal { try await boss.store.retry(ids[0]) }.message.contains("is no dead letter"))
    try await producer.store.discard(ids[1])
    #expect(try await boss.store.deadLetters().isEmpty)
    #expect(try await refusal { try await producer.store.discard(fine) }.message.contains("is no dead letter"))
    #expect(
      try await admin("select what from cordon.audit where what in ('retried', 'discarded') order by id")
        == ["retried", "discarded"])
  }

  /// A program that fails twenty times in a row without a success makes its own retries wait, and nobody else's.
  @Test func aBreakerHoldsRetriesOfOneProgram() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let (member, worker) = try await Member.worker()
    let retry = #"{"attempts": 50, "backoff": "fixed", "delay": "1ms"}"#
    let bad = "sha256:" + String(repeating: "b", count: 64)
    let other = "sha256:" + String(repeating: "c", count: 64)
    for _ in 0..<2 { _ = try await producer.store.enqueue(queue: "default", specification: job(retry)) }
    var rounds = 0
    while rounds < 30 {
      try await hurry()
      let claims = try await member.store.claim(worker: worker, limit: 2)
      if claims.isEmpty { break }
      rounds += 1
      _ = try await member.store.complete(
        worker: worker, finished: claims.map { ($0, failed($0.job == claims[0].job ? bad : bad)) })
      let held = try await admin(
        "select count(*)::text from cordon.scheduled where run_at > clock_timestamp() + interval '5 seconds'")
      if held != ["0"] { break }
    }
    let breaker = try json(try #require(try await boss.store.breakers().first))
    #expect(breaker["open"] == .bool(true) && breaker["code"]?.string == bad)
    #expect(
      (10...12).contains(rounds), "twenty failures are ten rounds of two, and the next two find it open: \(rounds)")

    // Another program's retry is not held.
    let free = try await producer.store.enqueue(queue: "default", specification: job(retry)).job
    let claim = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    #expect(claim.job == free)
    _ = try await member.store.complete(worker: worker, claim: claim, report: failed(other))
    #expect(
      try await admin(
        "select (run_at < clock_timestamp() + interval '5 seconds')::text from cordon.scheduled where job = $1",
        [Parameter(free.description)]) == ["true"])

    try await boss.store.resetBreaker(tenant: "alpha", code: try #require(Digest(bad)))
    #expect(try await boss.store.breakers().count == 1)
    // A success closes what is left.
    try await hurry()
    let rest = try #require(
      try await member.store.claim(worker: worker, limit: 3).first { $0.job == free })
    var report = AttemptReport.succeeded()
    report.code = Digest(other)
    _ = try await member.store.complete(worker: worker, claim: rest, report: report)
    #expect(try await boss.store.breakers().isEmpty)
  }
}
