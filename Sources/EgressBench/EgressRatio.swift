import BenchReport

/// A ratio of medians of one run, and what it is to be.
struct EgressRatio: Sendable {
  enum Target: Sendable {
    case atMost(Double)
    case atLeast(Double)
    /// To be known; the worst of these is what has a target.
    case none
  }

  var name: String
  var target: Target
  var value: @Sendable (EgressResults) -> Double?

  static let all: [EgressRatio] = {
    let streams = Scenario.all.filter { $0.kind == .stream }
    let latencies = Scenario.all.filter { $0.kind != .stream }
    let rates = streams.map { scenario in
      EgressRatio(name: "opaque_over_squid_\(scenario.name)", target: .none) { rateOverSquid($0, scenario) }
    }
    let added = latencies.map { scenario in
      EgressRatio(name: "added_p50_over_squid_\(scenario.name)", target: .none) { addedOverSquid($0, scenario) }
    }
    return [
      EgressRatio(name: "opaque_over_squid", target: .atLeast(0.9)) { results in
        worst(rates.map { $0.value(results) }) { $0.min() }
      },
      EgressRatio(name: "added_p50_over_squid", target: .atMost(1)) { results in
        worst(added.map { $0.value(results) }) { $0.max() }
      },
    ] + rates + added
  }()

  /// Microseconds at p50 beyond a connection without anybody between.
  static func added(_ results: EgressResults, _ scenario: Scenario, _ way: String) -> Double? {
    guard let direct = results.row(scenario, "direct")?.p50 else { return nil }
    return (results.row(scenario, way)?.p50).map { $0 - direct }
  }

  private static func rateOverSquid(_ results: EgressResults, _ scenario: Scenario) -> Double? {
    divided(results.row(scenario, "opaque")?.rate, results.row(scenario, "squid")?.rate)
  }

  private static func addedOverSquid(_ results: EgressResults, _ scenario: Scenario) -> Double? {
    divided(added(results, scenario, "opaque"), added(results, scenario, "squid"))
  }

  /// Nil where one of them is not known, which might be the worst.
  private static func worst(_ values: [Double?], _ choose: ([Double]) -> Double?) -> Double? {
    let known = values.compactMap { $0 }
    return known.count == values.count ? choose(known) : nil
  }

  private static func divided(_ left: Double?, _ right: Double?) -> Double? {
    guard let left, let right, right > 0 else { return nil }
    return left / right
  }

  func line(_ results: EgressResults) -> [String] {
    let value = value(results)
    let shown = value.map { $0.shown(3) } ?? "not measured"
    switch target {
    case .none: return [name, shown, "", ""]
    case .atMost(let most):
      return [name, shown, "≤ \(most.shown(1))", value.map { $0 <= most ? "met" : "missed" } ?? ""]
    case .atLeast(let least):
      return [name, shown, "≥ \(least.shown(1))", value.map { $0 >= least ? "met" : "missed" } ?? ""]
    }
  }
}
