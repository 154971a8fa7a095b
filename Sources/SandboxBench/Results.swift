import BenchReport
import Jobs

/// What was measured of one contender with one program, pinned or not.
struct Row: Sendable {
  var contender: String
  var program: String
  var pinned: Bool
  var note = ""
  var latencies: [Latency] = []
  var overPlain: Double?
  /// By cells in flight.
  var rates: [Int: SustainedRun.Rate] = [:]

  var p50: Double? { latencies.map(\.total).median }
  var p99: Double? { latencies.map(\.total).quantile(0.99) }
  var startedP50: Double? { latencies.compactMap(\.started).median }

  var json: JSONValue {
    var members: [String: JSONValue] = [
      "contender": .string(contender), "program": .string(program), "pinned": .bool(pinned), "note": .string(note),
      "samples": .integer(Int64(latencies.count)), "p50_us": JSONValue(p50, digits: 1),
      "p99_us": JSONValue(p99, digits: 1), "started_p50_us": JSONValue(startedP50, digits: 1),
      "over_plain": JSONValue(overPlain, digits: 3),
    ]
    for (key, value) in [
      ("per_second", \SustainedRun.Rate.perSecond), ("cpu_ms", \.processes), ("machine_ms", \.machine),
    ] {
      members[key] = .object(
        Dictionary(uniqueKeysWithValues: rates.map { ("\($0.key)", JSONValue($0.value[keyPath: value], digits: 3)) }))
    }
    return .object(members)
  }
}

/// Everything one benchmark found.
struct Results: Sendable {
  var rows: [Row] = []
  var absent: [Absentee] = []
  var alive: AliveCells.Result?
  var waiting: [WaitingCells] = []

  func waiting(_ contender: String) -> WaitingCells? { waiting.first { $0.contender == contender } }

  func row(_ contender: String, _ program: Program, pinned: Bool = true) -> Row? {
    rows.first { $0.contender == contender && $0.program == program.name && $0.pinned == pinned }
  }

  /// One median over another, of the pinned rows.
  func ratio(_ contender: String, over other: String, _ program: Program) -> Double? {
    guard let mine = row(contender, program)?.p50, let others = row(other, program)?.p50 else { return nil }
    return mine / others
  }

  var json: JSONValue {
    let ratios = Ratio.all.compactMap { ratio in ratio.value(self).map { (ratio.name, JSONValue($0, digits: 4)) } }
    var rows = rows.map(\.json)
    if let alive {
      for (name, latencies) in [("5", alive.few), ("\(alive.alive)", alive.many)] {
        var row = Row(contender: "cordon pool", program: "true", pinned: true, note: "with \(name) cells alive")
        row.latencies = latencies
        rows.append(row.json)
      }
    }
    for waiting in waiting {
      rows.append([
        "contender": .string(waiting.contender), "note": "cells that wait", "cells": .integer(Int64(waiting.cells)),
        "private_mib": JSONValue(waiting.privateMiB, digits: 4), "kernel_mib": JSONValue(waiting.kernelMiB, digits: 4),
      ])
    }
    rows += absent.map { ["contender": .string($0.name), "absent": .string($0.reason)] }
    return ["ratios": .object(Dictionary(uniqueKeysWithValues: ratios)), "rows": .array(rows)]
  }
}
