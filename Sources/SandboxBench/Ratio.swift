import BenchReport

/// A ratio that has a name, and for most of them a target.
struct Ratio: Sendable {
  enum Target: Sendable {
    case atMost(Double)
    case atLeast(Double)
    /// To be known, not to be met.
    case none
  }

  var name: String
  var target: Target
  var value: @Sendable (Results) -> Double?

  /// Medians of one run, pinned to one processor.
  static let all: [Ratio] = [
    Ratio(name: "pool_over_plain", target: .atMost(1.5)) { $0.ratio("cordon pool", over: "plain", .nothing) },
    Ratio(name: "pool_over_bwrap", target: .atMost(0.17)) { $0.ratio("cordon pool", over: "bwrap", .nothing) },
    Ratio(name: "pool_over_nsjail", target: .atMost(0.08)) { $0.ratio("cordon pool", over: "nsjail", .nothing) },
    Ratio(name: "pool_over_runc", target: .atMost(0.04)) { $0.ratio("cordon pool", over: "runc", .nothing) },
    Ratio(name: "pool_over_crun", target: .none) { $0.ratio("cordon pool", over: "crun", .nothing) },
    // What any pool has left to do, with no wall.
    Ratio(name: "waiting_over_plain", target: .none) { $0.ratio("waiting", over: "plain", .nothing) },
    Ratio(name: "waiting_over_bwrap", target: .none) { $0.ratio("waiting", over: "bwrap", .nothing) },
    // What the kernel alone takes for the namespaces and groups of a cell.
    Ratio(name: "floor_over_plain", target: .none) { $0.ratio("floor", over: "plain", .nothing) },
    Ratio(name: "cold_over_floor", target: .none) { $0.ratio("cordon cold", over: "floor", .nothing) },
    Ratio(name: "cold_over_plain", target: .atMost(2.8)) { $0.ratio("cordon cold", over: "plain", .nothing) },
    Ratio(name: "warm_python_over_plain_python", target: .atMost(0.3)) {
      $0.ratio("cordon warm python", over: "plain", .script)
    },
    Ratio(name: "zygote_python_over_plain_python", target: .none) {
      $0.ratio("cordon zygote python", over: "plain", .script)
    },
    Ratio(name: "floor_sustained4_over_bwrap", target: .none) { results in
      guard let floor = results.row("floor", .nothing)?.rates[4]?.perSecond,
        let others = results.row("bwrap", .nothing)?.rates[4]?.perSecond
      else { return nil }
      return floor / others
    },
    Ratio(name: "sustained4_over_bwrap", target: .atLeast(4)) { results in
      guard let mine = results.row("cordon pool", .nothing)?.rates[4]?.perSecond,
        let others = results.row("bwrap", .nothing)?.rates[4]?.perSecond
      else { return nil }
      return mine / others
    },
    // "No worse" is 1; two windows with the same number alive differ by up to a twentieth by themselves.
    Ratio(name: "alive500_over_alive5", target: .atMost(1.05)) { results in
      results.alive.flatMap { $0.alive >= 500 ? $0.ratio : nil }
    },
    // Of what has no cell, in the same rounds.
    Ratio(name: "plain_alive500_over_alive5", target: .none) { $0.alive?.ratio(beside: "plain") },
    Ratio(name: "floor_alive500_over_alive5", target: .none) { $0.alive?.ratio(beside: "floor") },
    Ratio(name: "waiting_cell_mib", target: .atMost(1)) { $0.waiting("cordon pool")?.privateMiB },
    Ratio(name: "waiting_zygote_over_warm", target: .none) { results in
      guard let forked = results.waiting("cordon zygote python")?.privateMiB,
        let own = results.waiting("cordon warm python")?.privateMiB
      else { return nil }
      return forked / own
    },
  ]

  func line(_ value: Double?) -> [String] {
    let shown = value.map { $0.shown(3) } ?? "not measured"
    switch target {
    case .none: return [name, shown, "", ""]
    case .atMost(let most):
      return [name, shown, "≤ \(most.shown(3))", value.map { $0 <= most ? "met" : "missed" } ?? ""]
    case .atLeast(let least):
      return [name, shown, "≥ \(least.shown(3))", value.map { $0 >= least ? "met" : "missed" } ?? ""]
    }
  }
}
