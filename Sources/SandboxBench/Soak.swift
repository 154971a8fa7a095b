import BenchReport
import Jobs

/// Many cells through one sandbox, and what they leave.
struct Soak: Sendable {
  var samples: [SoakSample] = []
  /// Medians of one cell at a time, pinned, with the pauses of the latency benchmark: when the sandbox was new and at
  /// the end. That of the plain program shows how far the machine itself drifted meanwhile.
  var fresh: [String: Double] = [:]
  var after: [String: Double] = [:]

  static let inFlight = 4

  var cells: Int { samples.last?.cells ?? 0 }

  func drift(of contender: String) -> Double? {
    guard let fresh = fresh[contender], let after = after[contender] else { return nil }
    return after / fresh
  }

  /// Windows of so many cells; between two of them the sandbox comes to rest, so that a count is a count of leftovers.
  static func window(cells: Int) -> Int { min(1_000, max(50, cells / 100)) }

  static func run(
    _ contender: CordonContender, plain: ProcessContender, cells: Int, rounds: Int, affinity: Affinity
  ) async throws -> Soak {
    var soak = Soak()
    // What is allocated once, and a pool that has learned what is asked for, are no growth.
    _ = try await batch(contender, cells: 2 * window(cells: cells))
    soak.fresh = try await medians(contender, plain, rounds, affinity)
    let begin = ContinuousClock.now
    try await rest(contender, waiting: 0)
    soak.samples.append(try SoakSample.take(of: contender))
    let waiting = Int(soak.samples[0].waiting)
    while soak.cells < cells {
      let count = min(window(cells: cells), cells - soak.cells)
      let start = ContinuousClock.now
      let latencies = try await batch(contender, cells: count)
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      try await rest(contender, waiting: waiting)
      var sample = try SoakSample.take(of: contender)
      sample.cells = soak.cells + count
      sample.seconds = (ContinuousClock.now - begin) / .seconds(1)
      sample.latency = latencies.median ?? .nan
      sample.perSecond = Double(count) / seconds
      soak.samples.append(sample)
      if soak.samples.count % 5 == 1 {
        Progress.line("\(sample.cells) cells, \(sample.perSecond.shown(0)) a second, p50 \(sample.latency.shown(0)) µs")
      }
    }
    soak.after = try await medians(contender, plain, rounds, affinity)
    return soak
  }

  private static func rest(_ contender: CordonContender, waiting: Int) async throws {
    try await Task.sleep(for: .milliseconds(20))
    try await contender.settle(prepared: waiting)
  }

  private static func batch(_ contender: CordonContender, cells: Int) async throws -> [Double] {
    try await withThrowingTaskGroup(of: [Double].self) { group in
      for slot in 0..<inFlight {
        let share = cells / inFlight + (slot < cells % inFlight ? 1 : 0)
        group.addTask {
          var latencies: [Double] = []
          for _ in 0..<share {
            try Interrupt.check()
            latencies.append(try await contender.run(.nothing, slot: slot).total)
          }
          return latencies
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
  }

  private static func medians(
    _ contender: CordonContender, _ plain: ProcessContender, _ rounds: Int, _ affinity: Affinity
  ) async throws -> [String: Double] {
    let wardens = try ProcessTable().tree(of: contender.wardens[0])
    try affinity.pin(with: wardens)
    defer { try? affinity.restore(with: wardens) }
    let run = LatencyRun(
      contenders: [plain, contender], program: .nothing, rounds: rounds, pause: Measurement.Plan.pause(.nothing))
    return try await run.samples().compactMapValues { $0.map(\.total).median }
  }

  var json: JSONValue {
    let rows = samples.map { sample -> JSONValue in
      var members: [String: JSONValue] = [
        "cells": .integer(Int64(sample.cells)), "seconds": JSONValue(sample.seconds, digits: 2),
        "p50_us": JSONValue(sample.latency, digits: 1), "per_second": JSONValue(sample.perSecond, digits: 1),
      ]
      for metric in SoakMetric.all {
        let key = metric.name.map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined()
        members[key] = JSONValue(metric.value(sample), digits: 3)
      }
      return .object(members)
    }
    var ratios: [String: JSONValue] = [:]
    // The name says how many cells there were.
    if cells >= 100_000, let drift = drift(of: "cordon pool") {
      ratios["after100k_over_fresh"] = JSONValue(drift, digits: 4)
    }
    return ["ratios": .object(ratios), "rows": .array(rows)]
  }

  var text: String {
    guard let first = samples.first, let last = samples.last else { return "" }
    var table = TextTable(["", "before", "after \(cells) cells", "early", "late", ""], left: 1)
    for metric in SoakMetric.all {
      let digits = metric.unit.isEmpty ? 0 : 2
      let name = metric.unit.isEmpty ? metric.name : "\(metric.name), \(metric.unit)"
      let levels = metric.levels(self)
      table.add(
        [name, metric.value(first).shown(digits), metric.value(last).shown(digits)]
          + [levels.early.shown(digits), levels.late.shown(digits), metric.verdict(self).rawValue])
    }
    var latencies = TextTable(["p50 µs, one at a time, pinned", "fresh", "after", "ratio"], left: 1)
    for name in fresh.keys.sorted() {
      latencies.add([name, fresh[name].shown(0), after[name].shown(0), drift(of: name).shown(3)])
    }
    return "\(table.text)\n\(latencies.text)\n\(SoakMetric.rules)\n"
  }
}
