import Glibc
import Jobs

/// What this host can enforce, for `cordon doctor`.
public enum HostReport {
  /// Starts a sandbox, runs the self-test in it and ends it again. Never throws: whatever is in the way of that is
  /// a finding that does not hold, with a fix. Where no sandbox starts, the first finding is the step that failed, and
  /// what follows are settings of the host that are known to be in the way of it.
  public static func doctor(_ configuration: SandboxConfiguration) async -> [Finding] {
    let sandbox: Sandbox
    do {
      sandbox = try await Sandbox.start(configuration)
    } catch {
      let facts = HostFacts.gather(cgroupBase: configuration.cgroupBase, refusal: error)
      let refusal = Finding(
        control: error.stage, holds: false, detail: error.cause, fix: error.fix ?? generalFix(error))
      return [refusal] + HostObstacles.recognise(facts)
    }
    var findings = [approvedDirectory(configuration)] + statements(sandbox.facts) + sandbox.facts.missing
    findings.append(await DiskTest.finding(sandbox))
    do {
      findings += try await SelfTest.run(sandbox)
    } catch {
      findings.append(Finding(control: "selftest", holds: false, detail: error.cause, fix: error.fix))
    }
    await sandbox.shutdown()
    return findings
  }

  private static func statements(_ facts: SandboxFacts) -> [Finding] {
    let cgroup =
      facts.cgroup == "v2"
      ? "unified hierarchy"
      : """
      v1 controllers, with a v2 group to kill by; no oom.group, the warden kills the rest; jobs make local sockets \
      alone, because v1 does not charge the buffers of others
      """
    let mode =
      facts.mode == "root"
      ? "the warden is root; each live cell has a uid of its own"
      : "user namespaces; every cell has the same uid outside"
    return [
      Finding(control: "cgroup", holds: true, detail: "\(facts.cgroup): \(cgroup)"),
      Finding(control: "mode", holds: true, detail: mode),
      Finding(control: "filter", holds: true, detail: facts.filter.description),
    ]
  }

  /// Tries what publishing does: a directory beneath the root, on one filesystem with it.
  private static func approvedDirectory(_ configuration: SandboxConfiguration) -> Finding {
    let control = "approved_directory"
    do {
      try OutputPlace(approvedRoot: configuration.approvedRoot, tenant: "doctor", job: "doctor", attempt: 1)
        .makePending().remove()
      return Finding(control: control, holds: true, detail: "\(configuration.approvedRoot) can be written")
    } catch {
      return Finding(
        control: control, holds: false, detail: "\(error)", fix: "make \(configuration.approvedRoot) writable")
    }
  }

  private static func generalFix(_ error: SandboxError) -> String {
    error.errno == EPERM || error.errno == EACCES ? "run the worker as root" : "see what cordon-warden wrote to its log"
  }
}

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
