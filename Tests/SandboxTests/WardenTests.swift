import Foundation
import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// A warden that dies, hangs, leaves or is not there, with real cells in it.
@Suite("Warden", .serialized) struct WardenTests {
  @Test func aDeadWardenFailsEveryReport() async throws {
    let scratch = try Scratch()
    let sandbox = try await Sandbox.start(Bench.configuration(scratch))
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    let (first, firstStage) = try await bench.start(["/usr/bin/sleep", "300"])
    let (second, secondStage) = try await bench.start(["/usr/bin/sleep", "300"])
    #expect(first.uid != second.uid)
    kill(sandbox.facts.wardenProcessID, SIGKILL)
    for cell in [first, second] {
      let error = await #expect(throws: SandboxError.self) { try await cell.report() }
      #expect(error?.stage == "warden")
    }
    await sandbox.waitUntilClosed()
    let refused = await #expect(throws: SandboxError.self) { try await bench.run(["/usr/bin/true"]) }
    #expect(refused?.stage == "warden")
    let patience = Duration.seconds(5)
    #expect(
      try await eventually(patience) { try processes(of: first.uid).isEmpty && processes(of: second.uid).isEmpty })
    #expect(try groups(of: sandbox.facts.wardenProcessID) == [], "groups are cleared away, though no warden follows")
    await sandbox.shutdown()
    firstStage.remove()
    secondStage.remove()
  }

  @Test(arguments: [false, true])
  func aHangingWardenIsKilled(whileShuttingDown: Bool) async throws {
    let scratch = try Scratch()
    var configuration = Bench.configuration(scratch)
    configuration.wardenPatience = .seconds(4)
    let sandbox = try await Sandbox.start(configuration)
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    let (cell, stage) = try await bench.start(["/usr/bin/sleep", "300"], limits: Limits(wallMilliseconds: 300_000))
    defer { stage.remove() }
    kill(sandbox.facts.wardenProcessID, SIGSTOP)
    if whileShuttingDown {
      await sandbox.shutdown()
    } else {
      let unanswered = await #expect(throws: SandboxError.self) {
        try await bench.run(["/usr/bin/true"], limits: Limits(wallMilliseconds: 100, graceMilliseconds: 0))
      }
      #expect(unanswered?.stage == "warden")
    }
    let error = await #expect(throws: SandboxError.self) { try await cell.report() }
    #expect(error?.stage == "warden")
    await sandbox.shutdown()
    #expect(!exists("/proc/\(sandbox.facts.wardenProcessID)"))
    #expect(try await eventually { try processes(of: cell.uid).isEmpty })
    let next = try await Sandbox.start(Bench.configuration(scratch))
    await next.shutdown()
  }

  @Test func shutdownEndsEverything() async throws {
    let scratch = try Scratch()
    let sandbox = try await Sandbox.start(Bench.configuration(scratch))
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    let (cell, stage) = try await bench.start(["/usr/bin/bash", "-c", "trap '' TERM; while :; do sleep 1; done"])
    await sandbox.shutdown()
    stage.remove()
    #expect(try processes(of: cell.uid).isEmpty)
    #expect(!exists("/proc/\(sandbox.facts.wardenProcessID)"))
    do {
      #expect(try await cell.report().facts.outcome == .lost)
    } catch {
      #expect(error.stage == "warden")
    }
    await #expect(throws: SandboxError.self) { try await bench.run(["/usr/bin/true"]) }
  }

  @Test func aMissingWardenIsNamed() async throws {
    let scratch = try Scratch()
    var configuration = Bench.configuration(scratch)
    configuration.wardenPath = scratch.path + "/absent"
    let missing = await #expect(throws: SandboxError.self) { try await Sandbox.start(configuration) }
    #expect(missing?.stage == "spawn")
    #expect(missing?.errno == ENOENT)
    #expect(missing?.fix != nil)
    configuration.wardenPath = "/usr/bin/true"
    let mute = await #expect(throws: SandboxError.self) { try await Sandbox.start(configuration) }
    #expect(mute?.stage == "spawn")
    let findings = await HostReport.doctor(configuration)
    #expect(findings.count == 1)
    #expect(findings.allSatisfy { !$0.holds && $0.fix != nil })
  }

  /// What is left to a worker that was taken over and makes the warden do whatever its process can.
  @Test func theWardenKeepsOnlyWhatMakingCellsTakes() async throws {
    let scratch = try Scratch()
    let sandbox = try await Sandbox.start(Bench.configuration(scratch))
    // Not by Foundation, which loses its buffer at an empty file of a size it does not know beforehand.
    let warden = try Descriptor.open("/proc/\(sandbox.facts.wardenProcessID)", O_RDONLY | O_DIRECTORY)
    let status = try warden.readText("status")
    let fields = status.split(separator: "\n").reduce(into: [Substring: Substring]()) { fields, line in
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 { fields[parts[0]] = parts[1].drop { $0 == "\t" || $0 == " " } }
    }
    // chown, dac_read_search, kill, setgid, setuid, net_bind_service, net_admin, sys_chroot, sys_ptrace, sys_admin.
    let kept: UInt64 = [0, 2, 5, 6, 7, 10, 12, 18, 19, 21].reduce(0) { $0 | 1 << $1 }
    // Inheritable for zygotes, which are the warden's own program.
    for set in ["CapPrm", "CapEff", "CapInh"] {
      #expect(fields[Substring(set)].flatMap { UInt64($0, radix: 16) } == kept, "\(set)")
    }
    for set in ["CapBnd", "CapAmb"] {
      #expect(fields[Substring(set)].flatMap { UInt64($0, radix: 16) } == 0, "\(set)")
    }
    #expect(fields["NoNewPrivs"] == "1")
    #expect(fields["Seccomp"] == "2")
    let interfaces = try warden.readText("net/dev").split(separator: "\n").dropFirst(2)
    #expect(interfaces.count == 1 && interfaces.first?.contains("lo:") == true, "\(interfaces)")
    let routes = try warden.readText("net/route").split(separator: "\n").dropFirst()
    #expect(routes.isEmpty)
    await sandbox.shutdown()
  }
}
