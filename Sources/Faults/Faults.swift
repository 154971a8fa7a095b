import ArgumentParser
import FaultHistory
import Foundation

/// A fleet under faults, on the machine it is run on; `ops/faults` builds and calls it.
@main
struct Faults: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "Faults",
    abstract: "Does to a fleet of real workers what production does, and checks the whole history.",
    discussion: "Exit codes: 0 every promise was kept; 1 one was broken; 2 usage; 3 it could not be run.")

  @Option(help: "What the script of faults is made from. Default: by chance; it is printed.")
  var seed: UInt64?
  @Option(help: "How long faults are injected. Default: 60, or as long as --faults takes.")
  var seconds: Int?
  @Option(help: "The most faults.")
  var faults: Int?
  @Option(help: "A kind of fault; repeat for more. Default: all.")
  var kind: [String] = []
  @Option(help: "Workers.")
  var workers = 3
  @Option(help: "How many seconds the fleet may finish nothing of what it owes.")
  var patience = 120
  @Option(help: "SQL to run once the schema is there, such as a function without its fence: the checker has to see it.")
  var sql: String?
  @Flag(help: "Print one JSON object.")
  var json = false
  @Flag(help: "Leave the directory, also where nothing was found.")
  var keep = false

  /// What is broken once is mostly broken often.
  private static let mostShown = 40

  func validate() throws {
    for word in kind where FaultKind(rawValue: word) == nil {
      let known = FaultKind.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("--kind: '\(word)' is unknown; use \(known)")
    }
    if !(1...16).contains(workers) { throw ValidationError("--workers: between 1 and 16") }
    if let seconds, seconds < 1 { throw ValidationError("--seconds: at least 1") }
    if let faults, faults < 0 { throw ValidationError("--faults: at least 0") }
  }

  func run() async throws {
    let seed = seed ?? UInt64.random(in: 1...999_999)
    let kinds = kind.isEmpty ? FaultKind.allCases : kind.compactMap { FaultKind(rawValue: $0) }
    let plan = FaultPlan(
      seed: seed, lasting: seconds.map { .seconds($0) } ?? (faults == nil ? .seconds(60) : nil), most: faults,
      workers: workers, lease: Fleet.lease, kinds: kinds)
    let script = try sql.map { try String(contentsOfFile: $0, encoding: .utf8) }
    let directory = "/var/tmp/cordon-faults-\(UUID().uuidString.prefix(8))"
    // PostgreSQL runs as its own user and has to reach it.
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
    let products = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let fleet: Fleet
    do {
      fleet = try await Fleet.start(
        directory: directory, products: URL(fileURLWithPath: products).deletingLastPathComponent().path,
        workers: workers, fillsDisk: kinds.contains(.fillDisk),
        replicates: kinds.contains(.promoteReplica))
    } catch {
      Self.say("error: no fleet: \(error); what it left: \(directory)")
      throw ExitCode(3)
    }
    let running = Task {
      if let script { try await fleet.amend(script) }
      return try await FaultRun(fleet: fleet, plan: plan, patience: .seconds(patience), report: { Self.say($0) })
        .perform()
    }
    let signals = Self.onInterrupt { running.cancel() }
    defer { for signal in signals { signal.cancel() } }
    let outcome: FaultRun.Outcome
    do {
      outcome = try await running.value
    } catch {
      await fleet.close()
      Self.say("error: seed \(seed): \(error); what it left: \(directory)")
      throw ExitCode(3)
    }
    await fleet.close()
    try show(outcome)
    if outcome.findings.isEmpty && !keep {
      try FileManager.default.removeItem(atPath: directory)
    } else {
      Self.say("what it left: \(directory)")
    }
    if !outcome.findings.isEmpty { throw ExitCode(1) }
  }

  private func show(_ outcome: FaultRun.Outcome) throws {
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      return print(String(decoding: try encoder.encode(outcome), as: UTF8.self))
    }
    func listed(_ counts: [String: Int]) -> String {
      counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    }
    print("seed \(outcome.seed), \(workers) workers, \(Int(outcome.seconds)) s")
    print("faults: \(outcome.faults.values.reduce(0, +)): \(listed(outcome.faults))")
    print("jobs: \(outcome.jobs) acknowledged, and \(outcome.fired) runs of a schedule")
    print("attempts: \(outcome.attempts.values.reduce(0, +)): \(listed(outcome.attempts))")
    print(
      "leases rescued: \(outcome.rescued); late reports refused: \(outcome.late); answers lost: \(outcome.answersLost)")
    print("packets dropped: \(listed(outcome.packetsDropped))")
    print("replicas promoted: \(outcome.promotions)")
    print("workers that ended by themselves, by exit code: \(listed(outcome.workerExits))")
    for finding in outcome.findings.prefix(Self.mostShown) { print(finding) }
    print(outcome.findings.isEmpty ? "every promise was kept" : "\(outcome.findings.count) findings")
  }

  /// What was started is stopped before this program goes.
  private static func onInterrupt(_ act: @escaping @Sendable () -> Void) -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler(handler: act)
      source.resume()
      return source
    }
  }

  private static func say(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
  }
}
