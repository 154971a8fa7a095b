import BenchReport

/// A ratio of medians of one run, and what it is to be.
struct QueueRatio: Sendable {
  enum Target: Sendable {
    case atMost(Double)
    case atLeast(Double)
    /// To be known, not to be met.
    case none
  }

  var name: String
  var target: Target
  var value: @Sendable (QueueResults) -> Double?

  static let all: [QueueRatio] = [
    overBestPeer("drain_over_best_peer", .drain, .atLeast(3)),
    QueueRatio(name: "drain_over_floor", target: .atLeast(0.8)) { divided($0.rate(.drain), $0.rate(.drain, "floor")) },
    overBestPeer("bulk_over_best_peer", .bulk, .atLeast(3)),
    pickup("pickup_p50_over_best_peer", \.p50),
    pickup("pickup_p99_over_best_peer", \.p99),
    over("snapshot_over_none", .snapshot, .undisturbed, .atLeast(0.8)),
    over("open_write_over_none", .openWrite, .undisturbed, .atLeast(0.9)),
    over("retained_over_none", .retained, .undisturbed, .atLeast(0.9)),
    over("lanes_over_one", .lanes, .oneLane, .atLeast(0.8)),
    over("notify_over_none", .notify, .quiet, .atLeast(0.9)),
    over("sandboxed_over_cells", .sandboxed, .cells, .atLeast(0.8)),
  ]

  private static func divided(_ left: Double?, _ right: Double?) -> Double? {
    guard let left, let right, right > 0 else { return nil }
    return left / right
  }

  /// Cordon in one scenario over Cordon in another.
  private static func over(
    _ name: String, _ scenario: QueueRow.Scenario, _ other: QueueRow.Scenario, _ target: Target
  ) -> QueueRatio {
    QueueRatio(name: name, target: target) { divided($0.rate(scenario), $0.rate(other)) }
  }

  private static func overBestPeer(_ name: String, _ scenario: QueueRow.Scenario, _ target: Target) -> QueueRatio {
    QueueRatio(name: name, target: target) { results in
      divided(results.rate(scenario), results.peers(scenario).compactMap(\.rate).max())
    }
  }

  private static func pickup(_ name: String, _ quantile: @escaping @Sendable (QueueRow) -> Double?) -> QueueRatio {
    QueueRatio(name: name, target: .atMost(1)) { results in
      divided(results.row(.pickup, "cordon").flatMap(quantile), results.peers(.pickup).compactMap(quantile).min())
    }
  }

  func line(_ results: QueueResults) -> [String] {
    let value = value(results)
    let shown = value.map { $0.shown(3) } ?? "not measured"
    let remark = value == nil ? results.missing[name] ?? "" : ""
    switch target {
    case .none: return [name, shown, "", remark]
    case .atMost(let most):
      return [name, shown, "≤ \(most.shown(1))", value.map { $0 <= most ? "met" : "missed" } ?? remark]
    case .atLeast(let least):
      return [name, shown, "≥ \(least.shown(1))", value.map { $0 >= least ? "met" : "missed" } ?? remark]
    }
  }
}
