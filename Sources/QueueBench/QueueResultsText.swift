import BenchReport

extension QueueResults {
  var text: String {
    var named = TextTable(["ratio (medians of one run)", "value", "target", ""], left: 1)
    for ratio in QueueRatio.all { named.add(ratio.line(self)) }
    return """
      One PostgreSQL, durable (fsync, full_page_writes and synchronous_commit on), its defaults otherwise; a commit of one
      row takes \(commit.shown(0)) µs here. \(plan.text).
      Medians of rounds that take turns. dead: row versions that died, for each job; trips: answers that the clients waited
      for, for each job. The clock of a peer starts with its first job and stops when the last result is acknowledged.
      \(trial.map { "NOT AS INSTALLED: \($0) was run after the migrations." } ?? "")

      \(table(of: QueueRow.Scenario.allCases.filter { ![.cells, .sandboxed].contains($0) }))
      With sandboxes: /usr/bin/true in a cell of its own, without a database, and as a job from the queue to its record.

      \(table(of: [.cells, .sandboxed]))
      \(named.text)
      """
  }

  func table(of scenarios: [QueueRow.Scenario]) -> String {
    var table = TextTable(
      ["scenario", "contender", "jobs/s", "p50 µs", "p99 µs", "wal B", "dead", "trips", "remark"], left: 2)
    for scenario in scenarios {
      for row in rows where row.scenario == scenario {
        table.add([
          scenario.rawValue, row.contender, row.rate.shown(0), row.p50.shown(0), row.p99.shown(0), row.wal.shown(0),
          row.died.shown(2), row.roundTrips.shown(4), row.strategy,
        ])
      }
    }
    if scenarios.contains(.drain) {
      for one in absent {
        table.add(["all", one.name] + [String](repeating: "", count: 6) + ["absent: \(one.reason)"])
      }
    }
    return table.text
  }
}
