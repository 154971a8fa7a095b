import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// Who goes first, and how much at once.
@Suite(.migrated) struct LaneTests {
  private func fill(
    _ member: Member, _ count: Int, priority: Int = 4, lane: String? = nil
  ) async throws -> [JobID] {
    try await member.store.enqueueMany(
      queue: "default", specifications: Array(repeating: sleepJob, count: count), priority: priority, lane: lane)
  }

  private func shares(_ claims: [Claim]) -> [String: Int] {
    Dictionary(claims.map { ($0.tenant, 1) }, uniquingKeysWith: +)
  }

  /// The tenant that came first with very many does not make the others wait for all of them.
  @Test func aTenantWithManyJobsLeavesTheOthersTheirShare() async throws {
    let many = try await Member.producer(tenant: "many")
    let few = try await Member.producer(tenant: "few")
    _ = try await fill(many, 300)
    _ = try await fill(few, 20)
    let (member, worker) = try await Member.worker()
    let first = try await member.store.claim(worker: worker, limit: 10)
    #expect(shares(first) == ["many": 5, "few": 5])
    let rest = try await member.store.claim(worker: worker, limit: 60)
    #expect(shares(rest) == ["many": 45, "few": 15], "what one lane lacks, the other gets")
  }

  @Test func weightsAreShares() async throws {
    let heavy = try await Member.producer(tenant: "heavy")
    let light = try await Member.producer(tenant: "light")
    _ = try await fill(heavy, 100)
    _ = try await fill(light, 100)
    let boss = try await Member.make("cordon_operator")
    try await boss.store.limitTenant("heavy", maxRunning: nil, weight: 3)
    let (member, worker) = try await Member.worker()
    #expect(shares(try await member.store.claim(worker: worker, limit: 40)) == ["heavy": 30, "light": 10])
  }

  /// More lanes than a claim serves: the next one goes on where it stopped, and after a while everybody had a turn.
  @Test func lanesTakeTurns() async throws {
    let producer = try await Member.producer()
    for number in 0..<40 { _ = try await fill(producer, 3, lane: "l\(number)") }
    let (member, worker) = try await Member.worker()
    var behind: Int32 = 0
    var turns: [Int32: Int] = [:]
    for _ in 0..<5 {
      let claims = try await member.store.claim(worker: worker, limit: 8, search: .look(behind: behind))
      #expect(claims.count == 8)
      for claim in claims { turns[claim.lane, default: 0] += 1 }
      behind = try #require(claims.last).lane
    }
    #expect(turns.count == 40 && turns.values.allSatisfy { $0 == 1 }, "\(turns)")
  }

  @Test func aSearchAmongKnownLanesFindsOnlyWhatIsBehindTheirFloors() async throws {
    let producer = try await Member.producer()
    let low = try await fill(producer, 2)
    let other = try await fill(producer, 2, lane: "other")
    let (member, worker) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: worker, limit: 1).first)
    let lane = KnownLane(lane: claim.lane, floor: claim.rank)
    let known = try await member.store.claim(worker: worker, limit: 5, search: .known([lane]))
    #expect(known.map(\.job) == [low[1]])
    let front = try await fill(producer, 1, priority: 0)
    #expect(try await member.store.claim(worker: worker, limit: 5, search: .known([lane])).isEmpty)
    let looked = try await member.store.claim(worker: worker, limit: 5)
    #expect(Set(looked.map(\.job)) == Set(front + other))
  }

  /// Waiting weighs against priority, at the rate of the queue.
  @Test func nothingStarves() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    try await boss.store.limitQueue("default", maxRunning: nil, ageing: 0.1)
    let old = try await fill(producer, 1, priority: 9)
    let urgent = try await fill(producer, 1, priority: 0)
    try await Task.sleep(for: .seconds(1))
    let late = try await fill(producer, 1, priority: 0)
    let (member, worker) = try await Member.worker()
    let order = try await member.store.claim(worker: worker, limit: 3).map(\.job)
    #expect(order == urgent + old + late)
  }

  @Test(arguments: ["queue", "tenant", "lane"])
  func noMoreRunAtOnceThanTheLimitSays(_ kind: String) async throws {
    let producer = try await Member.producer(tenant: "alpha")
    let boss = try await Member.make("cordon_operator")
    _ = try await fill(producer, 30, lane: "db")
    switch kind {
    case "queue": try await boss.store.limitQueue("default", maxRunning: 3)
    case "tenant": try await boss.store.limitTenant("alpha", maxRunning: 3)
    default: try await boss.store.limitLane(queue: "default", tenant: "alpha", lane: "db", maxRunning: 3)
    }
    // Claims of several workers at once, again and again.
    let workers = try await withThrowingTaskGroup(of: (member: Member, id: Int64).self) { group in
      for _ in 0..<4 { group.addTask { try await Member.worker() } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    var finished = 0
    for _ in 0..<60 where finished < 30 {
      let claims = try await withThrowingTaskGroup(of: (Int, [Claim]).self) { group in
        for (index, worker) in workers.enumerated() {
          group.addTask { (index, try await worker.member.store.claim(worker: worker.id, limit: 5)) }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      let count = claims.reduce(0) { $0 + $1.1.count }
      #expect(count <= 3)
      for (index, held) in claims where !held.isEmpty {
        _ = try await workers[index].member.store.complete(
          worker: workers[index].id, finished: held.map { ($0, .succeeded()) })
      }
      finished += count
    }
    #expect(finished == 30)
    for worker in workers { await worker.member.pool.close() }
  }

  @Test func aRateIsABucketThatRefills() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    _ = try await fill(producer, 50)
    try await boss.store.limitLane(
      queue: "default", tenant: "alpha", lane: nil, maxRunning: nil, perSecond: 20, burst: 5)
    let (member, worker) = try await Member.worker()
    let start = ContinuousClock.now
    #expect(try await member.store.claim(worker: worker, limit: 50).count == 5)
    var count = try await member.store.claim(worker: worker, limit: 50).count
    // A token comes in fifty milliseconds, so that as many as there were waits are there however long each one took.
    for _ in 0..<12 where count < 10 {
      try await Task.sleep(for: .milliseconds(50))
      count += try await member.store.claim(worker: worker, limit: 50).count
    }
    // One for the two clocks.
    let most = 20 * ((ContinuousClock.now - start) / .seconds(1)) + 1
    #expect(count >= 10 && Double(count) <= most, "\(count) of \(most)")
  }

  @Test func pausedQueuesGiveNothingAndDrainingOnesTakeNothing() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let (member, worker) = try await Member.worker()
    _ = try await fill(producer, 2)
    try await boss.store.setQueue("default", .paused)
    #expect(try await member.store.claim(worker: worker, limit: 5).isEmpty)
    _ = try await fill(producer, 1)
    try await boss.store.setQueue("default", .draining)
    let error = try await refusal { try await fill(producer, 1) }
    #expect(error.sqlState == "CD503" && error.message.contains("draining"))
    #expect(try await member.store.claim(worker: worker, limit: 5).count == 3)
    try await boss.store.setQueue("default", .open)
    #expect(try await fill(producer, 1).count == 1)
    let queue = try json(try #require(try await boss.store.queues().first))
    #expect(queue["queued"] == .integer(1) && queue["running"] == .integer(3) && queue["state"]?.string == "open")
    #expect(try await refusal { try await producer.store.setQueue("default", .paused) }.sqlState == "42501")
  }

  @Test func aJobThatDidNotStartInTimeIsExpired() async throws {
    let producer = try await Member.producer()
    let (member, worker) = try await Member.worker()
    func soon() async throws -> JobID {
      try await producer.store.enqueue(
        queue: "default", specification: sleepJob, startBefore: Date(timeIntervalSinceNow: 2)
      ).job
    }
    let claimed = try await soon()
    try await Task.sleep(for: .milliseconds(2_100))
    #expect(try await member.store.claim(worker: worker, limit: 5).isEmpty, "the claim that meets it ends it")
    let swept = try await soon()
    try await Task.sleep(for: .milliseconds(2_100))
    #expect(try await member.store.rescue(limit: 10) == 0)
    for job in [claimed, swept] {
      let record = try json(try await producer.store.record(job))
      #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "expired")
    }
    // The control: one that starts in time is not touched.
    let fine = try await producer.store.enqueue(
      queue: "default", specification: sleepJob, startBefore: Date(timeIntervalSinceNow: 2)
    ).job
    #expect(try await member.store.claim(worker: worker, limit: 5).map(\.job) == [fine])
    try await Task.sleep(for: .milliseconds(2_100))
    #expect(try await member.store.rescue(limit: 10) == 0)
    #expect(try json(try await producer.store.record(fine))["state"]?.string == "running")
    let past = try await refusal {
      try await producer.store.enqueue(
        queue: "default", specification: sleepJob, startBefore: Date(timeIntervalSinceNow: -1))
    }
    #expect(past.sqlState == "22023" && past.message.hasPrefix("start_before:"))
  }

  @Test func snoozeMovesWhatWaits() async throws {
    let producer = try await Member.producer()
    let (member, worker) = try await Member.worker()
    let job = try await fill(producer, 1)[0]
    try await producer.store.snooze(job, until: Date(timeIntervalSinceNow: 2))
    #expect(try await member.store.claim(worker: worker, limit: 5).isEmpty)
    try await Task.sleep(for: .milliseconds(2_100))
    #expect(try await member.store.claim(worker: worker, limit: 5).map(\.job) == [job])
    let error = try await refusal { try await producer.store.snooze(job, until: Date()) }
    #expect(error.message.contains("does not wait; it is running"))
  }

  @Test func keysHaveAScopeAndAnEnd() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addQueue(name: "second")
    func put(_ queue: String, scope: String?, expires: Double? = nil) async throws -> Enqueued {
      try await producer.store.enqueue(
        queue: queue, specification: sleepJob, key: "k", keyScope: scope, keyExpires: expires)
    }
    let first = try await put("default", scope: "queue", expires: 2)
    #expect(try await put("default", scope: "queue") == Enqueued(job: first.job, created: false))
    #expect(try await put("second", scope: "queue").created, "another queue's key is another key")
    #expect(try await put("default", scope: nil).created, "and so is the tenant's")
    try await Task.sleep(for: .milliseconds(2_100))
    let later = try await put("default", scope: "queue")
    #expect(later.created && later.job != first.job)
    #expect(try await refusal { try await put("default", scope: "world") }.message.hasPrefix("key_scope:"))
  }
}
