import BenchReport
import Postgres

/// Cordon alone: what others do to its drain. Rounds of all cases take turns.
struct Disturbances: Sendable {
  let server: QueueServer
  let plan: Plan

  private var plain: CordonQueue { CordonQueue(home: CordonDatabase(server: server, name: "cordon_disturbed")) }
  private var grown: CordonQueue { CordonQueue(home: CordonDatabase(server: server, name: "cordon_grown")) }

  func run(into results: inout QueueResults) async throws {
    try await plain.prepare()
    try await retain()
    for round in 0..<plan.rounds {
      for obstacle in Self.order(round) {
        Progress.line("drain, round \(round + 1) of \(plan.rounds): \(obstacle.scenario.rawValue)")
        let leg = Round(server: server, contender: plain)
        try await leg.settle()
        let effort = try await obstacle.held(in: plain.home) {
          _ = try await plain.fill(plan.jobs)
          return try await leg.drain(plan.jobs, within: plan.seconds)
        }
        results.add(effort, obstacle.scenario, "cordon", plain.strategy)
      }
      Progress.line("drain, round \(round + 1) of \(plan.rounds): \(plan.retained) finished jobs kept")
      let leg = Round(server: server, contender: grown)
      _ = try await grown.fill(plan.jobs)
      try await leg.settle()
      results.add(
        try await leg.drain(plan.jobs, within: plan.seconds), .retained, "cordon",
        "\(plan.retained) jobs and attempts, copied in from one that was run")
    }
  }

  /// One job is enqueued and recorded as any; a superuser copies its rows, because five million enqueues would take
  /// longer than everything else.
  private func retain() async throws {
    Progress.line("keeping \(plan.retained) finished jobs")
    try await grown.prepare()
    _ = try await grown.fill(grown.choice.bulk)
    _ = try await grown.drain(grown.choice.bulk, within: plan.seconds)
    try await server.asSuperuser(grown.database) { connection in
      for name in ["retained_jobs", "retained_attempts"] {
        let parameters = name == "retained_jobs" ? [Parameter(plan.retained)] : []
        try connection.query(Statement(name: name, sql: BenchSQL.text(name)), parameters)
      }
    }
    try await Round(server: server, contender: grown).settle()
  }

  private static func order(_ round: Int) -> [Obstacle] {
    let all = Obstacle.allCases
    let first = round % all.count
    return Array(all[first...] + all[..<first])
  }
}
