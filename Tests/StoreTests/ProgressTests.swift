import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What running jobs say of their progress.
@Suite(.migrated) struct ProgressTests {
  private func running() async throws -> (producer: Member, worker: Member, id: Int64, claim: Claim) {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let (worker, id) = try await Member.worker()
    let claim = try #require(try await worker.store.claim(worker: id, limit: 1).first)
    return (producer, worker, id, claim)
  }

  @Test func theLatestStandsInTheRecordWhileTheAttemptRuns() async throws {
    let (producer, worker, id, claim) = try await running()
    func said() async throws -> JSONValue? { try json(try await producer.store.record(claim.job))["progress"] }
    #expect(try await said() == .null)
    // No job byte can have run.
    try await worker.store.reportProgress(worker: id, [(claim, .integer(1))])
    #expect(try await said() == .null)
    _ = try await worker.store.start(worker: id, plain([claim]))
    for report in [JSONValue.integer(1), .object(["done": .integer(3), "note": .string("3/4")])] {
      try await worker.store.reportProgress(worker: id, [(claim, report)])
      #expect(try await said()?["report"] == report)
    }
    #expect(try await said()?["at"]?.string?.hasSuffix("Z") == true)
    #expect(try await worker.store.complete(worker: id, claim: claim, report: .succeeded()))
    #expect(try await said() == .null)
    // Late, and harmless.
    try await worker.store.reportProgress(worker: id, [(claim, .integer(5))])
    #expect(try await said() == .null)
  }

  @Test func onlyTheHolderOfTheLeaseIsHeard() async throws {
    let (producer, worker, id, claim) = try await running()
    _ = try await worker.store.start(worker: id, plain([claim]))
    let (other, otherID) = try await Member.worker()
    try await other.store.reportProgress(worker: otherID, [(claim, .integer(1))])
    let stranger = try await refusal { try await other.store.reportProgress(worker: id, [(claim, .integer(1))]) }
    #expect(stranger.sqlState == "CD410")
    // Of another lease.
    _ = try await worker.column(
      "select cordon.report_progress($1::bigint, array[$2::text]::uuid[], array[$3::bigint], '{1}')::text",
      [Parameter(id), Parameter(claim.job.description), Parameter(claim.token + 1)])
    #expect(try json(try await producer.store.record(claim.job))["progress"] == .null)
    try await worker.store.reportProgress(worker: id, [(claim, .integer(1))])
    #expect(try json(try await producer.store.record(claim.job))["progress"]?["report"] == .integer(1))
  }

  @Test func whatCannotBeKeptIsPassedOverOrRefused() async throws {
    let (producer, worker, id, claim) = try await running()
    _ = try await worker.store.start(worker: id, plain([claim]))
    let long = String(repeating: "x", count: Int(ProgressReport.longest) - 1)
    let refused = try await refusal { try await worker.store.reportProgress(worker: id, [(claim, .string(long))]) }
    #expect(refused.sqlState == "22023")
    try await worker.store.reportProgress(worker: id, [(claim, .string("\0"))])
    #expect(try json(try await producer.store.record(claim.job))["progress"] == .null)
    let longest = JSONValue.string(String(long.dropLast()))
    try await worker.store.reportProgress(worker: id, [(claim, longest)])
    #expect(
      try json(try await producer.store.record(claim.job))["progress"]?["report"] == longest)
  }
}
