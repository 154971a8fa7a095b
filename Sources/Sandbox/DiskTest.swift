import Jobs

/// Outputs on a disk as `cordon doctor` sees them: tried, not believed.
enum DiskTest {
  /// A cell with outputs on a disk that writes beyond its limit.
  static func finding(_ sandbox: Sandbox) async -> Finding {
    let stated = sandbox.facts.diskOutputs
    guard stated.holds else { return stated }
    var finding = stated
    do {
      let ran = try await SelfTest.runCell(
        sandbox, script: "head -c 16M /dev/zero > /output/fill; exit 0",
        limits: Limits(wallMilliseconds: 20_000, outputBytes: 4 << 20), outputs: .disk)
      ran.report.discardOutputs()
      finding.holds = ran.report.facts.outputExhausted
      if !finding.holds {
        finding.detail = "a cell went beyond its limit and ended as \(ran.report.facts.outcome)"
        finding.fix = "see the kernel's log"
      }
    } catch {
      finding.holds = false
      finding.detail = error.cause
      finding.fix = error.fix
    }
    return finding
  }
}
