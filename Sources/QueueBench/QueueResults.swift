import BenchReport
import Jobs

/// What was measured of one contender in one scenario.
struct QueueRow: Sendable {
  var scenario: Scenario
  var contender: String
  var strategy: String
  var efforts: [Effort] = []
  /// Microseconds.
  var latencies: [Double] = []

  enum Scenario: String, Sendable, CaseIterable {
    case bulk, drain, pickup
    case undisturbed = "drain, undisturbed"
    case snapshot = "drain, old snapshot"
    case openWrite = "drain, open write"
    case retained = "drain, finished kept"
    case oneLane = "drain, one lane"
    case lanes = "drain, many lanes"
    case quiet = "16 producers, none told"
    case notify = "16 producers"
    case cells
    case sandboxed
  }

  var rate: Double? { efforts.map(\.perSecond).median }
  var roundTrips: Double? { efforts.compactMap { $0.perJob($0.roundTrips.map(Int64.init)) }.median }
  var wal: Double? { efforts.compactMap { $0.perJob($0.walBytes) }.median }
  var died: Double? { efforts.compactMap { $0.perJob($0.died) }.median }
  var dead: Double? { efforts.compactMap { $0.perJob($0.dead) }.median }
  var p50: Double? { latencies.median }
  var p99: Double? { latencies.quantile(0.99) }

  var json: JSONValue {
    [
      "scenario": .string(scenario.rawValue), "contender": .string(contender), "strategy": .string(strategy),
      "per_second": JSONValue(rate, digits: 1), "rounds": .array(efforts.map { JSONValue($0.perSecond, digits: 1) }),
      "jobs": .array(efforts.map { .integer(Int64($0.jobs)) }), "p50_us": JSONValue(p50, digits: 1),
      "p99_us": JSONValue(p99, digits: 1), "samples": .integer(Int64(latencies.count)),
      "wal_bytes_per_job": JSONValue(wal, digits: 1), "dead_rows_made_per_job": JSONValue(died, digits: 3),
      "dead_rows_left_per_job": JSONValue(dead, digits: 3), "round_trips_per_job": JSONValue(roundTrips, digits: 4),
    ]
  }
}

/// Everything one run found.
struct QueueResults: Sendable {
  var plan: Plan
  /// A file of SQL that is no migration; what was measured is not what is installed.
  var trial: String?
  /// Microseconds.
  var commit: Double?
  var rows: [QueueRow] = []
  var absent: [Absentee] = []
  /// Ratios that this run could not have, and why.
  var missing: [String: String] = [:]

  mutating func add(_ effort: Effort, _ scenario: QueueRow.Scenario, _ contender: String, _ strategy: String) {
    rows[index(scenario, contender, strategy)].efforts.append(effort)
  }

  mutating func add(_ latencies: [Double], _ scenario: QueueRow.Scenario, _ contender: String, _ strategy: String) {
    rows[index(scenario, contender, strategy)].latencies += latencies
  }

  private mutating func index(_ scenario: QueueRow.Scenario, _ contender: String, _ strategy: String) -> Int {
    if let index = rows.firstIndex(where: {
      $0.scenario == scenario && $0.contender == contender && $0.strategy == strategy
    }) {
      return index
    }
    rows.append(QueueRow(scenario: scenario, contender: contender, strategy: strategy))
    return rows.count - 1
  }

  func row(_ scenario: QueueRow.Scenario, _ contender: String) -> QueueRow? {
    rows.first { $0.scenario == scenario && $0.contender == contender }
  }

  func rate(_ scenario: QueueRow.Scenario, _ contender: String = "cordon") -> Double? {
    row(scenario, contender)?.rate
  }

  /// The rows of those who are neither Cordon nor its floor.
  func peers(_ scenario: QueueRow.Scenario) -> [QueueRow] {
    rows.filter { $0.scenario == scenario && !["cordon", "floor"].contains($0.contender) }
  }

  var json: JSONValue {
    let ratios = QueueRatio.all.compactMap { ratio in
      ratio.value(self).map { (ratio.name, JSONValue($0, digits: 4)) }
    }
    return [
      "ratios": .object(Dictionary(uniqueKeysWithValues: ratios)),
      "rows": .array(
        rows.map(\.json) + absent.map { ["contender": .string($0.name), "absent": .string($0.reason)] }),
      "not_measured": .object(missing.mapValues { .string($0) }), "plan": .string(plan.text),
      "trial": trial.map { .string($0) } ?? .null,
      "commit_p50_us": JSONValue(commit, digits: 1),
    ]
  }
}
