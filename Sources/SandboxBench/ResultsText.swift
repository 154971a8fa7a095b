import BenchReport

extension Results {
  var text: String {
    var table = TextTable(
      [
        "contender", "program", "pinned", "p50 µs", "p99 µs", "x plain", "1/s @1", "1/s @4", "1/s @8", "cpu ms",
        "machine ms", "remark",
      ], left: 3)
    for row in rows {
      let rates = [1, 4, 8].map { (row.rates[$0]?.perSecond).shown(0) }
      table.add(
        [row.contender, row.program, row.pinned ? "yes" : "no", row.p50.shown(0), row.p99.shown(0)]
          + [row.overPlain.shown(2)] + rates
          + [(row.rates[4]?.processes).shown(2), (row.rates[4]?.machine).shown(2), row.note])
    }
    for one in absent {
      table.add([one.name] + [String](repeating: "", count: 10) + ["absent: \(one.reason)"])
    }
    var named = TextTable(["ratio (medians, pinned)", "value", "target", ""], left: 1)
    for ratio in Ratio.all { named.add(ratio.line(ratio.value(self))) }
    return """
      1/s: runs a second with so many in flight, building and taking down included; cpu and machine: processor time a
      run at 4 in flight: of the processes involved, and of the whole machine, which has what the kernel does later and
      the processes that nobody waited for, and whatever else runs here.

      \(table.text)
      \(named.text)\(remarks)
      """
  }

  private var remarks: String {
    var lines: [String] = []
    if let alive {
      lines.append(
        "start with \(alive.alive) cells alive: p50 \(alive.many.compactMap(\.started).median.shown(0)) µs until it runs, "
          + "\(alive.many.map(\.total).median.shown(0)) µs in all; with 5: "
          + "\(alive.few.compactMap(\.started).median.shown(0)) and \(alive.few.map(\.total).median.shown(0)) µs")
    }
    for waiting in waiting {
      lines.append(
        "\(waiting.cells) waiting cells of \(waiting.contender): \(waiting.privateMiB.shown(3)) MiB unshared each, kernel memory of the group "
          + (waiting.kernelMiB.map { $0.shown(3) + " MiB" } ?? "not readable"))
    }
    return lines.map { $0 + "\n" }.joined()
  }
}
