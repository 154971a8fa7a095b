import Foundation
import TestKit
import Testing

@Suite("A fleet of real workers under faults", .serialized)
struct FleetUnderFaults {
  /// Always the same script; `ops/faults` takes others, and longer ones.
  private static let seed = 20_261
  private static let seconds = 15

  @Test("every promise is kept: what was acknowledged ends once, with its lease, and its outputs are those recorded")
  func short() async throws {
    let log = FileManager.default.temporaryDirectory.appending(path: "cordon-faults-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: log) }
    let run = try Child(
      try buildProduct(named: "Faults"), ["--seed", "\(Self.seed)", "--seconds", "\(Self.seconds)"],
      environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], stdin: "/dev/null", stdout: log.path, stderr: log.path)
    let end = ContinuousClock.now + Duration.seconds(240).patiently
    while run.isRunning {
      guard ContinuousClock.now < end else {
        kill(run.processIdentifier, SIGTERM)
        throw Problem("seed \(Self.seed): still runs")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
    let said = try String(contentsOf: log, encoding: .utf8)
    #expect(run.terminationStatus == 0, "seed \(Self.seed): \(said)")
    #expect(said.contains("every promise was kept"))
  }
}
