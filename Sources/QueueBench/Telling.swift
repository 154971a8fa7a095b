import BenchReport
import Store

// Whether waking workers slows producers. Both databases have the same worker, which waits, is woken and looks by itself
// every second; in the second one nobody is told of a new job: `cordon.wake` does nothing there, so no statement of a
// producer ever notifies. What differs is the NOTIFY, and how often the worker, which takes from the same processors,
// gets up for it.

/// Sixteen producers that enqueue one job a call, and a worker that takes what comes.
struct Telling: Sendable {
  let server: QueueServer
  let plan: Plan

  private static let producers = 16
  private static let silence = """
    CREATE OR REPLACE FUNCTION cordon.wake(queue_id smallint) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = cordon, pg_temp AS ''
    """

  func run(into results: inout QueueResults) async throws {
    let told = CordonDatabase(server: server, name: "cordon_told")
    let quiet = CordonDatabase(server: server, name: "cordon_quiet")
    try await told.create()
    try await quiet.create()
    try await server.execute(quiet.name, Self.silence)
    for round in 0..<plan.rounds {
      let order: [(CordonDatabase, QueueRow.Scenario)] = [(told, .notify), (quiet, .quiet)]
      for (home, scenario) in round.isMultiple(of: 2) ? order : order.reversed() {
        Progress.line("round \(round + 1) of \(plan.rounds): \(scenario.rawValue)")
        let queue = CordonQueue(home: home)
        try await Round(server: server, contender: queue).settle()
        results.add(try await produce(home), scenario, "cordon", "a worker claims up to 100 at a time")
        try await queue.clear()
      }
    }
  }

  private func produce(_ home: CordonDatabase) async throws -> Effort {
    let serving = CordonServing(home: home, slots: 100)
    let worker = Task { try await serving.run { _, _ in } }
    let stores = (0..<Self.producers).map { _ in home.store(CordonDatabase.producer) }
    for store in stores { _ = try await store.databaseVersion() }
    let begin = microseconds()
    let jobs = try await withThrowingTaskGroup { group in
      for store in stores {
        group.addTask {
          var jobs = 0
          while microseconds() < begin + plan.producing * 1e6 {
            _ = try await store.enqueue(queue: CordonDatabase.queue, specification: CordonDatabase.specification)
            jobs += 1
          }
          return jobs
        }
      }
      return try await group.reduce(0, +)
    }
    let elapsed = (microseconds() - begin) / 1e6
    worker.cancel()
    // It may have ended before its time, and then what was measured is no producer beside a worker.
    do { try await worker.value } catch { throw BenchError("the worker ended: \(error)") }
    for store in stores { await store.close() }
    return Effort(jobs: jobs, seconds: elapsed, roundTrips: jobs)
  }
}
