import BenchReport

/// Cordon, its floor and the peers on the same jobs.
struct Contest: Sendable {
  let server: QueueServer
  let plan: Plan
  let contenders: [any QueueContender]

  /// A round is a bulk enqueue and the drain of what it put in; in every round another contender is first.
  func drain(into results: inout QueueResults) async throws {
    for round in 0..<plan.rounds {
      for contender in order(round) {
        Progress.line("drain, round \(round + 1) of \(plan.rounds): \(contender.name)")
        let leg = Round(server: server, contender: contender)
        try await leg.settle()
        let filled = try await leg.fill(plan.jobs)
        if contender.name != "floor" {
          results.add(filled, .bulk, contender.name, contender.strategy)
        }
        try await leg.settle()
        let drained = try await leg.drain(plan.jobs, within: plan.seconds)
        results.add(drained, .drain, contender.name, contender.strategy)
      }
    }
  }

  /// One job at a time into an empty queue; a worker waits for it. The samples are taken in as many rounds as the drains.
  func pickup(_ home: CordonDatabase, _ peers: [PeerQueue], into results: inout QueueResults) async throws {
    let samples = max(1, plan.pickups / plan.rounds)
    let note = "one job at a time, 40 to 80 ms between them"
    for peer in peers { try await peer.clear() }
    for round in 0..<plan.rounds {
      Progress.line("pickup, round \(round + 1) of \(plan.rounds)")
      results.add(try await CordonPickup(home: home).latencies(samples), .pickup, "cordon", note)
      for peer in peers {
        try Interrupt.check()
        results.add(try await peer.pickups(samples), .pickup, peer.name, note)
      }
    }
  }

  private func order(_ round: Int) -> [any QueueContender] {
    let first = round % contenders.count
    return Array(contenders[first...] + contenders[..<first])
  }
}
