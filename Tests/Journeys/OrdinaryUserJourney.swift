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
    try Self.openSocket(of: house)
    try await Self.addQueue("shared-uid", house)
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

    let policy = try await house.tool.run(["policy", "show"])
    #expect(policy.stderr.contains("policy sha256:"), "\(policy.stderr)")
    let waiving = policy.text.replacing("\"version\" : 1", with: "\"version\": 1, \"waivers\": [\"uids\"]")
    let set = try await house.tool.run(["policy", "set", "-"], stdin: Array(waiving.utf8))
    #expect(set.status == 0 && set.text.hasPrefix("sha256:"), "\(set.stderr)")

    let serving = try user.start(user.enter(arguments))
    defer { if serving.isRunning { kill(serving.processIdentifier, SIGKILL) } }
    let job = try await house.tool.enqueue([
      "--queue", "shared-uid", "--runtime", "bash", "--code", "until [ -e /tmp/go ]; do sleep 0.1; touch /tmp/go; done",
    ])
    let waived = JSONValue.array([.string("uids")])
    let record = try await house.tool.wait(for: job, limit: .seconds(60)) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"), "\(record) \(user.stderr)")
    #expect(record["attribution"]?["isolation"]?["waivers"] == waived)
    #expect(record["attribution"]?["policy"]?.string.map { set.text.contains($0) } == true)
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

  /// PostgreSQL's socket is for its own user and root; here the worker is neither.
  private static func openSocket(of house: House) throws {
    let files = FileManager.default.enumerator(at: house.directory, includingPropertiesForKeys: nil)
    for case let url as URL in files ?? .init() where url.lastPathComponent.hasPrefix(".s.PGSQL.") {
      chmod(url.path, 0o777)
      var directory = url.deletingLastPathComponent()
      while directory.path.hasPrefix(house.directory.path) {
        chmod(directory.path, 0o755)
        directory.deleteLastPathComponent()
      }
    }
  }

  private static func addQueue(_ name: String, _ house: House) async throws {
    let pool = Pool(ConnectionSettings(house.superuser), maximum: 1)
    let statement = Statement(name: "add_queue", sql: "select cordon.add_queue($1) is null")
    _ = try await pool.query(statement, [Parameter(name)])
    await pool.close()
  }
}

/// An account that is neither root nor anybody's, with a cgroup of its own and a copy of the programs it can read.
private final class OrdinaryUser {
  /// Nobody's uid on Debian; the range below 65536 that adduser gives out starts at 1000.
  static let id: uid_t = 64_242

  let place = URL(fileURLWithPath: "/var/tmp/cordon-ordinary-\(UUID().uuidString)")
  let groups: DelegatedGroups
  var data: String { place.path + "/data" }
  var stderr: String { (try? String(contentsOf: place.appending(path: "stderr"), encoding: .utf8)) ?? "" }

  init() throws {
    // The build directory may lie where only root can look.
    try FileManager.default.createDirectory(
      at: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    for name in ["cordon", "cordon-warden", "cordon-cell"] {
      try FileManager.default.copyItem(atPath: buildProduct(named: name), toPath: place.path + "/" + name)
    }
    try FileManager.default.createDirectory(at: place.appending(path: "data"), withIntermediateDirectories: false)
    chown(place.path + "/data", Self.id, Self.id)
    groups = try DelegatedGroups(owner: Self.id)
  }

  func remove() {
    groups.remove()
    try? FileManager.default.removeItem(at: place)
  }

  /// The process enters the delegated group while it may, then becomes the user, as a service manager does it.
  func enter(_ arguments: [String]) -> [String] {
    [
      "bash", "-c",
      """
      echo $$ > "$1/cgroup.procs" && place=$2 && shift 2 && exec setpriv --reuid \(Self.id) --regid \(Self.id) \
      --clear-groups env -i PATH=/usr/bin:/bin "$place/cordon" "$@"
      """, "bash", groups.unified, place.path,
    ] + arguments
  }

  /// Starts a command with its stderr in a file; every command it consists of replaces the one before.
  func start(_ command: [String], stdout: Pipe? = nil) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    if let stdout { process.standardOutput = stdout }
    let path = place.appending(path: "stderr")
    _ = FileManager.default.createFile(atPath: path.path, contents: nil)
    process.standardError = try FileHandle(forWritingTo: path)
    try process.run()
    return process
  }

  struct Report {
    var json: JSONValue
    var status: Int32
    var findings: [JSONValue] { json["findings"]?.array ?? [] }
    var missing: [String] {
      findings.filter { $0["holds"] == .bool(false) && $0["required"] == .bool(true) }
        .compactMap { $0["control"]?.string }
    }
  }

  func doctor(as command: [String]) throws -> Report {
    let output = Pipe()
    let process = try start(command, stdout: output)
    let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Report(json: try JSONDecoder().decode(JSONValue.self, from: bytes), status: process.terminationStatus)
  }
}

/// Groups of a user's own in every hierarchy Cordon uses, as an administrator delegates them.
private struct DelegatedGroups {
  let name = "cordon-ordinary-\(getpid())-\(UInt32.random(in: 100_000...999_999))"
  /// The one in the v2 hierarchy.
  let unified: String
  private let paths: [String]

  init(owner: uid_t) throws {
    let hybrid = "/sys/fs/cgroup/unified"
    let roots =
      FileManager.default.fileExists(atPath: hybrid)
      ? [hybrid] + ["memory", "pids", "cpu"].map { "/sys/fs/cgroup/" + $0 } : ["/sys/fs/cgroup"]
    let name = name
    paths = roots.map { "\($0)/\(name)" }
    unified = paths[0]
    for path in paths {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
      chown(path, owner, owner)
      for file in try FileManager.default.contentsOfDirectory(atPath: path) { chown("\(path)/\(file)", owner, owner) }
    }
  }

  /// Children are gone or empty by now; what is left would be a failure of the test that made it.
  func remove() {
    for path in paths {
      for child in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] { rmdir("\(path)/\(child)") }
      rmdir(path)
    }
  }
}
