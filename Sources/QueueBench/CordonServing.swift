import BenchReport
import Jobs
import Store
import Worker

// A worker that waits, as the real one does: it listens, and looks by itself every second besides. Each wake-up claims
// until a claim brings less than was asked for, which also tells producers that somebody is idle.

/// Cordon's worker loop without cells, against a queue that is empty most of the time.
struct CordonServing: Sendable {
  let home: CordonDatabase
  /// Jobs a claim asks for.
  var slots = 8

  private static let pollInterval = Duration.seconds(1)

  /// Serves until it is cancelled; `begun` is told of each job at the moment its code might start.
  func run(_ begun: @escaping @Sendable (String, Double) -> Void) async throws {
    let store = home.store(CordonDatabase.worker)
    let worker = try await home.register(store, slots: slots)
    let (wakeUps, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    let listener = Task {
      for await _ in store.notifications(["cordon_ready"]) { wake.yield() }
    }
    let poller = Task {
      while !Task.isCancelled {
        wake.yield()
        try? await Task.sleep(for: Self.pollInterval)
      }
    }
    do {
      var lanes = LaneCursor()
      for await _ in wakeUps { try await work(store, worker, &lanes, begun) }
    } catch {
      if !Task.isCancelled { throw error }
    }
    listener.cancel()
    poller.cancel()
    await store.close()
  }

  private func work(
    _ store: Store, _ worker: Int64, _ lanes: inout LaneCursor, _ begun: @Sendable (String, Double) -> Void
  ) async throws {
    var isIdle = false
    while !Task.isCancelled {
      let began = ContinuousClock.now
      guard let search = lanes.search(now: began, isTold: true) else { return }
      let claims = try await store.claim(
        worker: worker, limit: slots, search: search, beginning: StartAttribution())
      lanes.found(claims, by: search, limit: slots, began: began, now: .now)
      if !claims.isEmpty {
        try await CordonQueue.finish(claims, store, worker) { begun($0.job.description, microseconds()) }
      }
      if claims.count < slots, case .look = search {
        // As the worker does: once more after it has said that it is idle.
        if isIdle, claims.isEmpty { return }
        isIdle = claims.isEmpty
      }
    }
  }
}

/// From the acknowledgement of an enqueue to the moment a job's code may start: its start is on record.
struct CordonPickup: Sendable {
  let home: CordonDatabase

  private static let warmUp = 10

  func latencies(_ samples: Int) async throws -> [Double] {
    let (begun, began) = AsyncStream.makeStream(of: (job: String, at: Double).self)
    let serving = CordonServing(home: home)
    let server = Task { try await serving.run { began.yield(($0, $1)) } }
    let producer = home.store(CordonDatabase.producer)
    var latencies: [Double] = []
    var starts = begun.makeAsyncIterator()
    for sample in -Self.warmUp..<samples {
      try Interrupt.check()
      let job = try await producer.enqueue(
        queue: CordonDatabase.queue, specification: CordonDatabase.specification
      ).job
      let committed = microseconds()
      guard let start = await starts.next(), start.job == job.description else {
        throw BenchError("cordon started another job than the one that was enqueued")
      }
      if sample >= 0 { latencies.append(start.at - committed) }
      // Until the job is recorded and the worker waits again; at no fixed distance from its timers.
      try await Task.sleep(for: .microseconds(.random(in: 40_000...80_000)))
    }
    server.cancel()
    began.finish()
    await producer.close()
    return latencies
  }
}
