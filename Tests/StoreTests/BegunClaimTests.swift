import Jobs
import Postgres
import Store
import TestKit
import Testing

/// A job that is claimed alone begins with its claim.
@Suite("Claims that begin", .migrated)
struct BegunClaimTests {
  private static let known = StartAttribution(
    isolation: Isolation(
      cgroup: "v2", namespaces: ["net"], filter: Digest(sha256: Array(repeating: 7, count: 32)), uid: nil))

  private func claim(
    _ worker: (member: Member, id: Int64), limit: Int = 8
  ) async throws -> [Claim] {
    try await worker.member.store.claim(worker: worker.id, limit: limit, beginning: Self.known)
  }

  @Test("one job alone is on record as running when its claim is answered, with its code and its worker")
  func alone() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let worker = try await Member.worker()
    let claim = try #require(try await claim(worker).first)
    #expect(claim.job == job && claim.isBegun)
    let record = try json(try await producer.store.record(job))
    #expect(record["state"]?.string == "running")
    #expect(record["attribution"]?["isolation"]?["cgroup"]?.string == "v2")
    let code = try await admin(
      "select 'sha256:' || encode(sha256(convert_to($1::text, 'UTF8')), 'hex')", [Parameter("sleep 1")])
    #expect(record["attribution"]?["code"]?.string == code[0])
    let started = try await admin(
      "select count(*)::text from cordon.audit where what = 'started' and job = $1::text::uuid",
      [Parameter(job.description)])
    #expect(started == ["1"])
    // Asked again it has begun, as for any other.
    #expect(try await worker.member.store.start(worker: worker.id, plain([claim])) == [job])
    #expect(try await worker.member.store.complete(worker: worker.id, claim: claim, report: .succeeded(.null)))
  }

  @Test("its commit waits for the disk, as a start's does and a claim's does not", arguments: [1, 2])
  func durable(jobs: Int) async throws {
    let producer = try await Member.producer()
    for _ in 0..<jobs { _ = try await producer.store.enqueue(queue: "default", specification: sleepJob) }
    let worker = try await Member.worker()
    // Servers of tests do not wait for their disk.
    _ = try await worker.member.column("select set_config('synchronous_commit', 'on', false)")
    let settings = try await worker.member.column(
      """
      with taken as materialized (
        select count(*) as n from cordon.claim_begun($1::bigint, 8, 0, '{}'))
      select case when n > 0 then current_setting('synchronous_commit') end from taken
      """, [Parameter(worker.id)])
    #expect(settings == [jobs == 1 ? "on" : "off"])
  }

  @Test("several jobs begin later, and so does one that needs more than its specification")
  func notAlone() async throws {
    let producer = try await Member.producer()
    for _ in 0..<2 { _ = try await producer.store.enqueue(queue: "default", specification: sleepJob) }
    let worker = try await Member.worker()
    let two = try await claim(worker)
    #expect(two.map(\.isBegun) == [false, false])
    let input = #"{"runtime": "bash", "code": "cat $CORDON_INPUTS/a", "inputs": {"a": {"text": "b"}}}"#
    _ = try await producer.store.enqueue(queue: "default", specification: input)
    #expect(try await claim(worker).map(\.isBegun) == [false])
    let states = try await admin("select (started_at is null)::text from cordon.lease")
    #expect(states == ["true", "true", "true"])
  }

  @Test("a claim that its worker never heard of goes back after a while, counted, because its lease says that it began")
  func unheard() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let worker = try await Member.worker(leaseSeconds: 10)
    #expect(try await claim(worker).map(\.isBegun) == [true])
    _ = try await worker.member.store.heartbeat(worker: worker.id, held: [])
    #expect(try await admin("select count(*)::text from cordon.lease") == ["1"])
    try await age(leasesTo: 20)
    _ = try await worker.member.store.heartbeat(worker: worker.id, held: [])
    let again = try #require(try await claim(worker).first)
    #expect(again.job == job && again.attempt == 2 && again.isBegun)
    let record = try json(try await producer.store.record(job, attempt: 1))
    #expect(record["outcome"]?.string == "lost")
  }

  @Test("what its worker names stays, however old")
  func named() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let worker = try await Member.worker(leaseSeconds: 10)
    let claim = try #require(try await claim(worker).first)
    try await age(leasesTo: 100)
    #expect(try await worker.member.store.heartbeat(worker: worker.id, held: [(claim.job, claim.token)]) == [:])
    #expect(try await admin("select count(*)::text from cordon.lease") == ["1"])
  }

  @Test("nothing begins whose submitter is revoked between enqueue and claim")
  func revoked() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let worker = try await Member.worker()
    _ = try await admin(
      "select cordon.revoke('principal', $1::text, 'drain', 'test')::text", [Parameter(producer.role)])
    #expect(try await claim(worker).isEmpty)
    #expect(try await admin("select count(*)::text from cordon.lease") == ["0"])
  }
}
