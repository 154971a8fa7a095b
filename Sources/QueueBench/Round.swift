import BenchReport

/// One round of one contender, with what the server counts around it.
struct Round: Sendable {
  let server: QueueServer
  let contender: any QueueContender

  func fill(_ jobs: Int) async throws -> Effort {
    try await counted { try await contender.fill(jobs) }
  }

  /// - Parameter filled: the jobs that wait.
  func drain(_ jobs: Int, of filled: Int? = nil, within seconds: Double) async throws -> Effort {
    let effort = try await counted { try await contender.drain(jobs, within: seconds) }
    if effort.jobs < filled ?? jobs { try await contender.clear() }
    return effort
  }

  /// What earlier rounds left is cleaned up and analysed for everybody alike, as autovacuum would do in its time, and no
  /// checkpoint of theirs falls into this one.
  func settle() async throws {
    try Interrupt.check()
    try await server.execute(contender.database, "VACUUM (ANALYZE)")
    try await server.execute(contender.database, "CHECKPOINT")
  }

  private func counted(_ body: () async throws -> Effort) async throws -> Effort {
    let before = try await ServerCounters.read(server, contender.database)
    var effort = try await body()
    let after = try await ServerCounters.read(server, contender.database)
    effort.walBytes = after.wal - before.wal
    effort.died = after.died - before.died
    effort.dead = after.dead
    return effort
  }
}
