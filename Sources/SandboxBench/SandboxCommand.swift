import ArgumentParser
import BenchReport
import Foundation
import Jobs
import Sandbox

struct SandboxCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sandbox", abstract: "Latency and sustained rate against plain processes and peers, in one run.")

  @Flag(help: "One JSON object on stdout instead of the tables.")
  var json = false
  @Option(help: "Latency samples of each contender and program.")
  var rounds: Int?
  @Flag(help: "A rough look in about a minute; numbers are not stable.")
  var quick = false

  func validate() throws {
    if let rounds, !(1...100_000).contains(rounds) { throw ValidationError("--rounds: between 1 and 100000") }
  }

  func run() async throws {
    Interrupt.listen()
    guard geteuid() == 0 else { throw BenchError("must be root, as the sandbox it measures") }
    let scratch = try BenchScratch()
    defer { scratch.remove() }
    let limits = Limits()
    let peers = try await Peers(scratch: scratch.path, limits: limits)
    defer { peers.close() }
    let plan = Measurement.Plan(
      rounds: rounds ?? (quick ? 25 : 200), window: quick ? .milliseconds(300) : .seconds(1), repeats: quick ? 1 : 3)
    var results = Results()
    results.absent = peers.absent

    let affinity = try Affinity()
    defer { try? affinity.restore() }
    for pinned in [true, false] {
      if pinned { try affinity.pin() } else { try affinity.restore() }
      Progress.line(pinned ? "pinned to one processor" : "on \(affinity.processors.count) processors")
      try await Measurement(scratch: scratch.path, peers: peers, limits: limits, plan: plan, pinned: pinned)
        .run(into: &results)
    }
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      print(String(decoding: try encoder.encode(results.json), as: UTF8.self))
    } else {
      print(results.text, terminator: "")
    }
  }
}

/// A private directory that is removed at the end.
struct BenchScratch {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/cordon-bench-\(getpid())"
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
  }

  func remove() { try? FileManager.default.removeItem(atPath: path) }
}
