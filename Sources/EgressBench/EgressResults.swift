import BenchReport
import Jobs

/// What was measured of one way in one scenario.
struct EgressRow: Sendable {
  enum Round: Sendable {
    /// MiB a second, over all connections.
    case rate(Double)
    /// Microseconds.
    case latencies([Double])
  }

  var scenario: Scenario
  var way: Way
  var rates: [Double] = []
  /// Of each round.
  var p50s: [Double] = []
  var latencies: [Double] = []

  mutating func add(_ round: Round) {
    switch round {
    case .rate(let rate): rates.append(rate)
    case .latencies(let found):
      latencies += found
      if let p50 = found.median { p50s.append(p50) }
    }
  }

  var rate: Double? { rates.median }
  /// The median of the rounds' medians: a round that something disturbed counts as one.
  var p50: Double? { p50s.median }
  var p99: Double? { latencies.quantile(0.99) }

  var json: JSONValue {
    [
      "scenario": .string(scenario.kind.rawValue), "connections": .integer(Int64(scenario.connections)),
      "contender": .string(way.name), "mib_per_second": JSONValue(rate, digits: 1),
      "rounds": .array((rates + p50s).map { JSONValue($0, digits: 1) }), "p50_us": JSONValue(p50, digits: 1),
      "p99_us": JSONValue(p99, digits: 1), "samples": .integer(Int64(latencies.count)),
    ]
  }
}

/// Everything one run found.
struct EgressResults: Sendable {
  var plan: Plan
  var rows: [EgressRow] = []
  /// Why squid is not among the ways.
  var absent: String?

  mutating func add(_ round: EgressRow.Round, _ scenario: Scenario, _ way: Way) {
    if let index = rows.firstIndex(where: { $0.scenario == scenario && $0.way.name == way.name }) {
      rows[index].add(round)
    } else {
      var row = EgressRow(scenario: scenario, way: way)
      row.add(round)
      rows.append(row)
    }
  }

  func row(_ scenario: Scenario, _ way: String) -> EgressRow? {
    rows.first { $0.scenario == scenario && $0.way.name == way }
  }

  var json: JSONValue {
    let ratios = EgressRatio.all.compactMap { ratio in
      ratio.value(self).map { (ratio.name, JSONValue($0, digits: 4)) }
    }
    let missing: [JSONValue] = absent.map { [["contender": "squid", "absent": .string($0)]] } ?? []
    return [
      "ratios": .object(Dictionary(uniqueKeysWithValues: ratios)), "rows": .array(rows.map(\.json) + missing),
      "plan": .string(plan.text),
    ]
  }

  var text: String {
    var table = TextTable(["scenario", "contender", "MiB/s", "p50 µs", "p99 µs", "added µs", "remark"], left: 2)
    for scenario in Scenario.all {
      for row in rows where row.scenario == scenario {
        let added = EgressRatio.added(self, scenario, row.way.name)
        table.add([
          scenario.name, row.way.name, row.rate.shown(0), row.p50.shown(1), row.p99.shown(1),
          row.way.name == "direct" ? "-" : added.shown(1), row.way.remark,
        ])
      }
    }
    if let absent { table.add(["all", "squid", "", "", "", "", "absent: \(absent)"]) }
    var named = TextTable(["ratio (medians of one run)", "value", "target", ""], left: 1)
    for ratio in EgressRatio.all { named.add(ratio.line(self)) }
    return """
      TLS from a client to a server that are processes of their own, on this host's loopback; the number behind a scenario
      is how many connections there are at once. Ways take turns within a round; medians of rounds. added: p50 beyond direct.
      \(plan.text).

      \(table.text)
      \(named.text)
      """
  }
}
