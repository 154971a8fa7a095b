import BenchReport
import Jobs
import Store
import Synchronization
import Worker

// Cordon through its store, as a worker calls it: claim, start, complete, each durable before the next, on connections
// of the pool that a worker has. What is left out is everything between start and complete: no cell is made, nothing is
// staged, streamed or collected, and the attempt's attribution is empty. Where a claim looks is the worker's `LaneCursor`. Each client is a worker of its own with a
// session of its own. A worker with cells calls start and complete once for each attempt; here they take the whole batch
// of a claim, as the statements allow and as the peers do.

/// Cordon without sandboxes.
struct CordonQueue: QueueContender {
  struct Strategy: Sendable {
    /// Clients that drain at once, each with a session.
    var clients = 4
    /// Jobs a claim asks for.
    var batch = 1000
    /// Clients that enqueue at once, and specifications in one call.
    var producers = 2
    var bulk = 1000

    var text: String { "\(clients) workers claim \(batch) at a time; \(producers) producers enqueue \(bulk) a call" }
  }

  let home: CordonDatabase
  var choice = Strategy()
  var name = "cordon"

  var database: String { home.name }
  var strategy: String { choice.text }

  func prepare() async throws { try await home.create() }

  func fill(_ jobs: Int) async throws -> Effort {
    let stores = (0..<choice.producers).map { _ in home.store(CordonDatabase.producer) }
    for store in stores { _ = try await store.databaseVersion() }
    let specifications = [String](repeating: CordonDatabase.specification, count: choice.bulk)
    let calls = jobs / choice.bulk
    let begin = microseconds()
    try await withThrowingTaskGroup { group in
      for (index, store) in stores.enumerated() {
        let mine = calls / stores.count + (index < calls % stores.count ? 1 : 0)
        group.addTask {
          for _ in 0..<mine {
            _ = try await store.enqueueMany(queue: CordonDatabase.queue, specifications: specifications)
          }
        }
      }
      try await group.waitForAll()
    }
    let seconds = (microseconds() - begin) / 1e6
    for store in stores { await store.close() }
    return Effort(jobs: calls * choice.bulk, seconds: seconds, roundTrips: calls)
  }

  func drain(_ jobs: Int, within seconds: Double) async throws -> Effort {
    var clients: [(store: Store, worker: Int64)] = []
    for _ in 0..<choice.clients {
      let store = home.store(CordonDatabase.worker)
      clients.append((store, try await home.register(store, slots: choice.batch)))
    }
    let batch = choice.batch
    let wanted = Wanted(jobs)
    let begin = microseconds()
    let efforts = try await withThrowingTaskGroup { group in
      for client in clients {
        group.addTask {
          try await Self.work(client.store, client.worker, wanted, batch: batch, until: begin + seconds * 1e6)
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    let elapsed = (microseconds() - begin) / 1e6
    for client in clients { await client.store.close() }
    return Effort(
      jobs: efforts.reduce(0) { $0 + $1.jobs }, seconds: elapsed,
      roundTrips: efforts.reduce(0) { $0 + $1.roundTrips })
  }

  func clear() async throws { try await home.server.execute(database, "DELETE FROM cordon.ready") }

  private static func work(
    _ store: Store, _ worker: Int64, _ wanted: Wanted, batch: Int, until deadline: Double
  ) async throws -> (jobs: Int, roundTrips: Int) {
    var jobs = 0
    var roundTrips = 0
    var lanes = LaneCursor()
    while microseconds() < deadline {
      let share = wanted.take(batch)
      if share == 0 { break }
      let began = ContinuousClock.now
      let search = lanes.search(now: began) ?? .look(behind: 0)
      let claims = try await store.claim(worker: worker, limit: share, search: search)
      lanes.found(claims, by: search, limit: share, began: began, now: .now)
      roundTrips += 1
      wanted.giveBack(share - claims.count)
      if claims.isEmpty {
        guard case .look = search else { continue }
        break
      }
      try await finish(claims, store, worker)
      roundTrips += 2
      jobs += claims.count
    }
    return (jobs, roundTrips)
  }

  /// What stands between claim and record where nothing is run; `began` is called where the job's code would start.
  static func finish(
    _ claims: [Claim], _ store: Store, _ worker: Int64, began: (Claim) -> Void = { _ in }
  ) async throws {
    let unbegun = claims.filter { !$0.isBegun }
    let begun = unbegun.isEmpty ? [] : try await store.start(worker: worker, unbegun.map { ($0, StartAttribution()) })
    for claim in claims { began(claim) }
    let report = AttemptReport(outcome: .succeeded)
    let recorded = try await store.complete(worker: worker, finished: claims.map { ($0, report) })
    guard begun.count == unbegun.count, recorded.count == claims.count, !recorded.values.contains(false) else {
      throw BenchError("a lease was lost, so what was counted is not what was done")
    }
  }
}

/// Jobs that nobody has asked for yet, of those that are to be drained.
private final class Wanted: Sendable {
  private let left: Atomic<Int>

  init(_ jobs: Int) { left = Atomic(jobs) }

  /// At most `most`; 0 when there are none.
  func take(_ most: Int) -> Int {
    let before = left.subtract(most, ordering: .relaxed).oldValue
    return max(0, min(most, before))
  }

  /// What a claim did not bring.
  func giveBack(_ jobs: Int) { left.add(jobs, ordering: .relaxed) }
}
