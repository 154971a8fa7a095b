import Foundation
import TestKit
import Testing

@Suite("A fleet of real workers under faults", .serialized)
struct FleetUnderFaults {
  /// Always the same script; `ops/faults` takes others, and longer ones.
  private static let seed = "20261"

  @Test("every promise is kept: what was acknowledged ends once, with its lease, and its outputs are those recorded")
  func short() async throws {
    let (status, said) = try await run(["--seconds", "15"])
    #expect(status == 0, "seed \(Self.seed): \(said)")
    #expect(said.contains("every promise was kept"))
    // Each of the two faults of a network met packets; a kind that met none is counted with 0.
    #expect(said.contains(/packets dropped: [1-9][0-9]* losePackets, [1-9][0-9]* partition/), "\(said)")
  }

  @Test("a fleet that forgets jobs is seen: a rescue that does not put them back")
  func mutant() async throws {
    let mutant = repository.appending(path: "Tests/FaultsTests/Mutants/rescue.sql").path
    let (status, said) = try await run([
      "--seconds", "8", "--kind", "killWorker", "--kind", "pauseWorker", "--patience", "8", "--sql", mutant,
    ])
    #expect(status == 1, "seed \(Self.seed): \(said)")
    #expect(said.contains("has 0 final attempts and is in []"), "\(said)")
    // What such a run leaves is for a look, and nobody will look at this one.
    let mark = "what it left: "
    for line in said.split(separator: "\n") where line.hasPrefix(mark + "/var/tmp/cordon-faults-") {
      try FileManager.default.removeItem(atPath: String(line.dropFirst(mark.count)))
    }
  }

  private func run(_ arguments: [String]) async throws -> (status: Int32, said: String) {
    let log = FileManager.default.temporaryDirectory.appending(path: "cordon-faults-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: log) }
    let run = try Child(
      try buildProduct(named: "Faults"), ["--seed", Self.seed] + arguments,
      environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], stdin: "/dev/null", stdout: log.path, stderr: log.path)
    let end = ContinuousClock.now + Duration.seconds(240).patiently
    while run.isRunning {
      guard ContinuousClock.now < end else {
        kill(run.processIdentifier, SIGTERM)
        throw Problem("seed \(Self.seed): still runs")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
    return (run.terminationStatus, try String(contentsOf: log, encoding: .utf8))
  }
}
