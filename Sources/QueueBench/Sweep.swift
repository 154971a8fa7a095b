import BenchReport

/// Every contender with every setting that was tried for it, and the one it has in the comparison: what that choice
/// rests on. The settings take turns as contenders do.
struct Sweep: Sendable {
  let server: QueueServer
  let plan: Plan

  static let strategies: [CordonQueue.Strategy] =
    [(1, 200), (2, 200), (4, 50), (4, 200), (4, 1000), (8, 200)].map {
      CordonQueue.Strategy(clients: $0.0, batch: $0.1)
    } + [(1, 1000), (4, 1000), (2, 100)].map { CordonQueue.Strategy(producers: $0.0, bulk: $0.1) }

  func run(_ cordon: CordonQueue, _ peers: [PeerQueue], into results: inout QueueResults) async throws {
    var contenders: [any QueueContender] = Self.strategies.map { strategy in
      var copy = cordon
      copy.choice = strategy
      return copy
    }
    for peer in peers { contenders += [peer] + (try await peer.tried().filter { $0.strategy != peer.strategy }) }
    try await Contest(server: server, plan: plan, contenders: contenders).drain(into: &results)
  }
}
