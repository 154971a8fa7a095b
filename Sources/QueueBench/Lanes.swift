import BenchReport
import Postgres

// A lane is a tenant: a role of its own that enqueues into the one queue. The worker serves every tenant, none of which has
// a limit; what is measured is what it costs a claim that lanes take turns.

/// As many jobs waiting in many lanes as in one.
struct Lanes: Sendable {
  let server: QueueServer
  let plan: Plan

  /// Calls in which a lane's jobs come, so that the lanes are mixed in the order of the queue.
  private static let turns = 5

  func run(into results: inout QueueResults) async throws {
    let many = CordonQueue(home: CordonDatabase(server: server, name: "cordon_lanes"))
    let one = CordonQueue(home: CordonDatabase(server: server, name: "cordon_lane"))
    try await one.prepare()
    try await many.prepare()
    Progress.line("enqueueing \(plan.waiting) jobs in one lane, and in \(plan.lanes)")
    _ = try await one.fill(plan.waiting)
    try await fill(many.home)
    // The queue is to be as long in the last round as in the first, as near as can be.
    let share = min(plan.jobs, plan.waiting / 4 / plan.rounds)
    for round in 0..<plan.rounds {
      let order: [(CordonQueue, QueueRow.Scenario)] = [(one, .oneLane), (many, .lanes)]
      for (queue, scenario) in round.isMultiple(of: 2) ? order : order.reversed() {
        Progress.line("round \(round + 1) of \(plan.rounds): \(scenario.rawValue)")
        let leg = Round(server: server, contender: queue)
        try await leg.settle()
        let effort = try await leg.drain(share, of: 0, within: plan.seconds)
        results.add(
          effort, scenario, "cordon", scenario == .lanes ? "\(plan.lanes) tenants with a role each" : "one tenant")
      }
    }
  }

  private func fill(_ home: CordonDatabase) async throws {
    let (lanes, share) = (plan.lanes, plan.waiting / plan.lanes / Self.turns)
    try await server.asSuperuser(home.name) { connection in
      for lane in 0..<lanes {
        try connection.execute(
          script: """
            CREATE ROLE bench_lane_\(lane) LOGIN IN ROLE cordon_producer;
            SELECT cordon.add_principal('bench_lane_\(lane)', 'lane-\(lane)')
            """)
      }
      let enqueue = Statement(
        name: "enqueue_many",
        sql: "SELECT count(*) FROM unnest(cordon.enqueue_many($1::text, array_fill($2::jsonb, ARRAY[$3::int]))) j")
      for _ in 0..<Self.turns {
        for lane in 0..<lanes {
          try connection.execute(script: "SET SESSION AUTHORIZATION bench_lane_\(lane)")
          try connection.query(
            enqueue,
            [Parameter(CordonDatabase.queue), Parameter(CordonDatabase.specification), Parameter(share)])
          try connection.execute(script: "RESET SESSION AUTHORIZATION")
        }
      }
    }
  }
}
