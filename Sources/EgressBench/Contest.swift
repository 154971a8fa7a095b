import BenchReport

/// All ways on the same work, in turns.
struct Contest: Sendable {
  let plan: Plan
  let client: Client
  let ways: [Way]

  /// In every round another way is first.
  func run(_ scenario: Scenario, into results: inout EgressResults) async throws {
    for way in ways { _ = try await measure(scenario, by: way, part: 8) }
    for round in 0..<plan.rounds {
      Progress.line("\(scenario.name), round \(round + 1) of \(plan.rounds)")
      let first = round % ways.count
      for way in ways[first...] + ways[..<first] {
        try Interrupt.check()
        results.add(try await measure(scenario, by: way, part: 1), scenario, way)
      }
    }
  }

  /// - Parameter part: how much less than a round, to warm up.
  private func measure(_ scenario: Scenario, by way: Way, part: Int) async throws -> EgressRow.Round {
    let lanes = scenario.connections
    switch scenario.kind {
    case .stream:
      let bytes = plan.streamBytes / part
      let (_, seconds) = try await talking(lanes, way) { talk in
        try await talk.receive(bytes)
        return []
      }
      return .rate(Double(lanes * bytes) / 1_048_576 / seconds)
    case .echo:
      let count = plan.echoes / part / lanes
      return .latencies(try await talking(lanes, way) { try await $0.echoes(count) }.0)
    case .connect:
      let count = plan.connects / part / lanes
      return .latencies(
        try await together((0..<lanes).map { _ in }) { _ in
          var latencies: [Double] = []
          for _ in 0..<count {
            let talk = try await client.connect(by: way)
            latencies.append(talk.handshake)
            await talk.close()
          }
          return latencies
        })
    }
  }

  /// Opens the connections first; what is done over all of them is timed.
  private func talking(
    _ lanes: Int, _ way: Way, _ body: @escaping @Sendable (Talk) async throws -> [Double]
  ) async throws -> ([Double], seconds: Double) {
    var talks: [Talk] = []
    for _ in 0..<lanes { talks.append(try await client.connect(by: way)) }
    let begin = microseconds()
    let values = try await together(talks, body)
    let end = microseconds()
    for talk in talks { await talk.close() }
    return (values, (end - begin) / 1e6)
  }

  private func together<Lane: Sendable>(
    _ lanes: [Lane], _ body: @escaping @Sendable (Lane) async throws -> [Double]
  ) async throws -> [Double] {
    try await withThrowingTaskGroup { group in
      for lane in lanes { group.addTask { try await body(lane) } }
      return try await group.reduce(into: []) { $0 += $1 }
    }
  }
}
