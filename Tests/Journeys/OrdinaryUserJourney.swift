import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@Suite("Journey: an ordinary user with a delegated cgroup", .serialized)
struct OrdinaryUserJourney {
  @Test("KS-28: cells get a user namespace on top; what one uid cannot give is named, and a worker would refuse")
  func doctor() async throws {
    let user = try OrdinaryUser()
    defer { user.remove() }
    let report = try user.doctor(as: user.enter(["doctor", "--json", "--cgroup-base", user.groups.name]))
    #expect(report.json["ready"] == .bool(false) && report.status == 3)
    #expect(report.missing == ["uids"], "\(report.findings)")
    let namespaces = report.findings.first { $0["control"] == .string("namespaces") }
    #expect(namespaces?["detail"]?.string?.contains("user") == true)
    #expect(report.findings.count > 15)
    let disk = report.findings.first { $0["control"] == .string("outputs.disk") }
    #expect(disk?["holds"] == .bool(false) && disk?["fix"]?.string == "run the worker as root", "\(disk as Any)")
    let uids = report.findings.first { $0["control"] == .string("uids") }
    #expect(uids?["fix"]?.string?.contains(#""waivers": ["uids"]"#) == true)
  }

  @Test("KS-28, OP-01: a cgroup that nobody delegated is named, with what delegates one")
  func notDelegated() async throws {
    let user = try OrdinaryUser()
    defer { user.remove() }
    let foreign = try DelegatedGroups(owner: 0)
    defer { foreign.remove() }
    let report = try user.doctor(as: user.enter(["doctor", "--json", "--cgroup-base", foreign.name]))
    #expect(report.status == 3)
    #expect(report.missing.first == "host" && report.missing.contains("host.cgroup.delegation"), "\(report.findings)")
    let finding = report.findings.first { $0["control"] == .string("host.cgroup.delegation") }
    #expect(finding?["detail"]?.string?.contains(foreign.name) == true)
    #expect(finding?["fix"]?.string?.contains("Delegate=") == true)
  }

  @Test("KS-28, OP-01: user namespaces that are switched off are named, with the setting")
  func noUserNamespaces() async throws {
    let user = try OrdinaryUser()
    defer { user.remove() }
    // Root is who the process is outside, whatever it is called in its namespace.
    let groups = try DelegatedGroups(owner: 0)
    defer { groups.remove() }
    // The setting belongs to a user namespace: in one of its own it is off for this process and for nobody else.
    let report = try user.doctor(as: [
      "unshare", "--user", "--map-user=\(OrdinaryUser.id)", "--map-group=\(OrdinaryUser.id)", "--keep-caps", "bash",
      "-c",
      "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$1/cordon\" doctor --json --cgroup-base \"$2\"", "bash",
      user.place.path, groups.name,
    ])
    #expect(report.status == 3)
    #expect(report.missing == ["host", "host.user_namespaces"], "\(report.findings)")
    let finding = report.findings.last
    #expect(finding?["detail"]?.string?.contains("user.max_user_namespaces is 0") == true)
    #expect(finding?["fix"]?.string?.contains("sysctl -w user.max_user_namespaces=") == true)
  }

  @Test("OP-02: a worker refuses without a waiver; with one it serves that policy's jobs, and every record says so")
  func waiver() async throws {
    let user = try OrdinaryUser()
    defer { user.remove() }
    // Its own worker is root's, lacks nothing and serves another queue.
    let house = try await House(slots: 1)
    house.openSocket()
    try await house.addQueue("shared-uid")
    let arguments = [
      "worker", "--queue", "shared-uid", "--slots", "1", "--data", user.data, "--database", house.worker,
      "--cgroup-base", user.groups.name, "--canary-interval", "1s",
    ]
    let strict = try await house.tool.enqueue(["--queue", "shared-uid", "--", "/usr/bin/true"])

    let refused = try user.start(user.enter(arguments))
    try await eventually("the worker refuses", limit: .seconds(60)) { !refused.isRunning }
    #expect(refused.terminationStatus == 3)
    let line = user.stderr.split(separator: "\n").last ?? ""
    #expect(line.contains("uids: ") && line.contains(#"a policy with "waivers": ["uids"]"#), "\(user.stderr)")

    let digest = try await house.waive("uids")

    let serving = try user.start(user.enter(arguments))
    defer { if serving.isRunning { kill(serving.processIdentifier, SIGKILL) } }
    let job = try await house.tool.enqueue([
      "--queue", "shared-uid", "--runtime", "bash", "--code", "until [ -e /tmp/go ]; do sleep 0.1; touch /tmp/go; done",
    ])
    let waived = JSONValue.array([.string("uids")])
    let record = try await house.tool.wait(for: job, limit: .seconds(60)) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"), "\(record) \(user.stderr)")
    #expect(record["attribution"]?["isolation"]?["waivers"] == waived)
    #expect(record["attribution"]?["policy"] == .string(digest))
    // While it runs, too: what a lost attempt leaves is the attribution of its start.
    let long = try await house.tool.enqueue(["--queue", "shared-uid", "--", "/usr/bin/sleep", "60"])
    let running = try await house.tool.wait(for: long) {
      $0["state"] == .string("running") && $0["attribution"]?["isolation"]?["filter"] != nil
    }
    #expect(running["attribution"]?["isolation"]?["waivers"] == waived)
    _ = try await house.tool.run(["cancel", long])
    // Cancelled, so the worker has seen more than one canary by now and serves on without what it never had.
    _ = try await house.tool.wait(for: long) { $0["state"] == .string("finished") }

    // What was accepted under the policy before is not this worker's to run, first in its queue or not.
    #expect(try await house.tool.show(strict)["state"] == .string("queued"))
    let workers = try await house.tool.run(["workers", "--json"]).json().array ?? []
    #expect(workers.first?["missing"] == waived && workers.first?["state"] == .string("serving"), "\(workers)")
    #expect(workers.last?["missing"] == .array([]))

    kill(serving.processIdentifier, SIGTERM)
    try await eventually("the worker leaves", limit: .seconds(60)) { !serving.isRunning }
    #expect(serving.terminationStatus == 0, "\(user.stderr)")
    try await house.close()
  }
}

/// What the journey runs as such a user, with its stderr in a file.
extension OrdinaryUser {
  fileprivate var stderr: String {
    (try? String(contentsOf: place.appending(path: "stderr"), encoding: .utf8)) ?? ""
  }

  /// Every command it consists of replaces the one before.
  fileprivate func start(_ command: [String], stdout: Pipe? = nil) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    process.environment = ["PATH": "/usr/bin:/bin"]
    if let stdout { process.standardOutput = stdout }
    let path = place.appending(path: "stderr")
    _ = FileManager.default.createFile(atPath: path.path, contents: nil)
    process.standardError = try FileHandle(forWritingTo: path)
    try process.run()
    return process
  }

  fileprivate struct Report {
    var json: JSONValue
    var status: Int32
    var findings: [JSONValue] { json["findings"]?.array ?? [] }
    var missing: [String] {
      findings.filter { $0["holds"] == .bool(false) && $0["required"] == .bool(true) }
        .compactMap { $0["control"]?.string }
    }
  }

  fileprivate func doctor(as command: [String]) throws -> Report {
    let output = Pipe()
    let process = try start(command, stdout: output)
    let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Report(json: try JSONDecoder().decode(JSONValue.self, from: bytes), status: process.terminationStatus)
  }
}
