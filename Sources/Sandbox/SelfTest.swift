import Glibc
import Jobs

// Theory of operation
//
// Before its first claim a worker runs cells whose program is ours and looks from inside at what a job would find.
// The first cell prints what its kernel files say and tries what must not work; `Inspection` judges the text. The
// text is believed, because the program is ours; that the program was confined is the thing in question, and a
// control that is missing shows in it. The other cells run into one limit each, and the judgement is the kernel's
// count in the cell's report. Whatever cannot be determined does not hold.
//
// While it serves, the worker looks again every few minutes with a lighter set of the same cells (`probe`): all of the
// inspection, and the limits that a host can lose while it runs.

/// The boundary test of this host.
public enum SelfTest {
  static let shell = "/usr/bin/bash"

  /// Runs the cells and returns one finding for each control. Throws `SandboxError` only when the warden is gone.
  public static func run(_ sandbox: Sandbox) async throws(SandboxError) -> [Finding] {
    try await findings(sandbox, LimitTest.all)
  }

  /// What a canary runs: the same, without the limits that only the warden's own code can lose.
  public static func probe(_ sandbox: Sandbox) async throws(SandboxError) -> [Finding] {
    try await findings(sandbox, LimitTest.all.filter(\.isHostsToLose))
  }

  private static func findings(
    _ sandbox: Sandbox, _ limits: [LimitTest]
  ) async throws(SandboxError) -> [Finding] {
    guard access(shell, X_OK) == 0 else {
      return [
        Finding(
          control: "selftest", holds: false, detail: "\(shell) is missing, nothing could be tested from inside",
          fix: "apt-get install bash")
      ]
    }
    return try await inspect(sandbox) + limits.concurrentFindings(sandbox)
  }

  private static func inspect(_ sandbox: Sandbox) async throws(SandboxError) -> [Finding] {
    let ran: Ran
    do {
      ran = try await runCell(sandbox, script: Inspection.script, limits: Limits(wallMilliseconds: 30_000))
    } catch  where error.stage != "warden" {
      return [Finding(control: "cell", holds: false, detail: error.cause, fix: error.fix)]
    }
    guard ran.report.facts.outcome == .succeeded else {
      return [Finding(control: "cell", holds: false, detail: "the test program ended as \(ran.report.facts.outcome)")]
    }
    let inspection = Inspection(transcript: String(decoding: ran.stdout, as: UTF8.self))
    return inspection.findings(
      uid: sandbox.facts.mode == "root" ? ran.report.isolation.uid : nil, namespaces: sandbox.facts.namespaces,
      own: ownNamespaces())
  }

  struct Ran: Sendable {
    var report: CellReport
    var stdout: [UInt8]
  }

  static func runCell(
    _ sandbox: Sandbox, script: String, limits: Limits, outputs: OutputStorage = .memory
  ) async throws(SandboxError) -> Ran {
    let stage = try sandbox.stage()
    defer { stage.remove() }
    _ = try stage.writeInput(name: "probe", bytes: Array("probe".utf8))
    _ = try stage.writeJobFile(name: "selftest.sh", bytes: Array(script.utf8), executable: false)
    let cell = try await sandbox.run(
      CellRequest(
        stage: stage, argv: [shell, "--noprofile", "--norc", "/job/selftest.sh"],
        environment: [("PATH", "/usr/bin:/usr/sbin"), ("LC_ALL", "C"), ("HOME", "/tmp")], limits: limits,
        outputs: outputs))
    var stdout: [UInt8] = []
    for await chunk in cell.output where chunk.stream == "stdout" { stdout += chunk.bytes }
    return Ran(report: try await cell.report(), stdout: stdout)
  }

  /// Identities of our own namespaces by the kernel's names.
  private static func ownNamespaces() -> [String: String] {
    var own: [String: String] = [:]
    for name in Inspection.namespaceNames {
      var buffer = [UInt8](repeating: 0, count: 128)
      let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/ns/\(name)", $0.baseAddress!, $0.count) }
      if count > 0 { own[name] = String(decoding: buffer[..<count], as: UTF8.self) }
    }
    return own
  }
}

/// A cell that runs into one limit, and the fact that shows that the limit is in force.
struct LimitTest: Sendable {
  let control: String
  let script: String
  let limits: Limits
  let fix: String
  /// False where the warden enforces the limit by itself, with nothing of the host's that could change under it.
  var isHostsToLose = true
  let holds: @Sendable (ExitFacts) -> Bool

  static let all: [LimitTest] = [
    LimitTest(
      control: "cgroup.memory",
      // tail must keep the one line it reads, until it is killed.
      script: "head -c 128M /dev/zero | tail -n 1 | wc -c",
      limits: Limits(wallMilliseconds: 20_000, memoryBytes: 32 << 20),
      fix: "enable the memory controller for cordon's cgroup, see `cordon doctor`", holds: { $0.oomKills > 0 }),
    LimitTest(
      // Few processes, each alive for long beside the time a slow host needs to start the next: seen under emulation,
      // forty that slept 0.2 s never were sixteen at once.
      control: "cgroup.pids", script: "seq 6 | xargs -P 6 -I{} sleep 1; exit 0",
      limits: Limits(wallMilliseconds: 20_000, pids: 4),
      fix: "enable the pids controller for cordon's cgroup, see `cordon doctor`", holds: { $0.pidsLimitHits > 0 }),
    LimitTest(
      control: "limits.wall", script: "trap '' TERM; while :; do sleep 0.1; done",
      limits: Limits(wallMilliseconds: 300, graceMilliseconds: 100),
      fix: "install cordon and cordon-warden of one build", isHostsToLose: false,
      holds: { $0.outcome == .timedOut }),
    LimitTest(
      control: "limits.output", script: "head -c 4M /dev/zero > /output/fill; exit 0",
      limits: Limits(wallMilliseconds: 20_000, outputBytes: 1 << 20),
      fix: "run on a kernel with tmpfs", holds: { $0.outputExhausted }),
  ]

  func finding(_ sandbox: Sandbox) async throws(SandboxError) -> Finding {
    let facts: ExitFacts
    do {
      facts = try await SelfTest.runCell(sandbox, script: script, limits: limits).report.facts
    } catch  where error.stage != "warden" {
      return Finding(control: control, holds: false, detail: error.cause, fix: error.fix)
    }
    let held = holds(facts)
    return Finding(
      control: control, holds: held,
      detail: held ? "a cell that ran into it was stopped" : "a cell went beyond it and ended as \(facts.outcome)",
      fix: held ? nil : fix)
  }
}

extension [LimitTest] {
  /// At the same time, because each waits for the kernel more than it works; in the order of the list.
  fileprivate func concurrentFindings(_ sandbox: Sandbox) async throws(SandboxError) -> [Finding] {
    let results = await withTaskGroup(of: (Int, Result<Finding, SandboxError>).self) { group in
      for (index, test) in enumerated() {
        group.addTask {
          do throws(SandboxError) {
            return (index, .success(try await test.finding(sandbox)))
          } catch {
            return (index, .failure(error))
          }
        }
      }
      return await group.reduce(into: [(Int, Result<Finding, SandboxError>)]()) { $0.append($1) }
    }
    var findings: [Finding] = []
    for (_, result) in results.sorted(by: { $0.0 < $1.0 }) { findings.append(try result.get()) }
    return findings
  }
}
