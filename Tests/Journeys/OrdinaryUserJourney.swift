import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journey: an ordinary user with a delegated cgroup")
struct OrdinaryUserJourney {
  /// Nobody's uid on Debian; the range below 65536 that adduser gives out starts at 1000.
  private static let user: uid_t = 64_242

  @Test("cells get a user namespace on top; what one uid cannot give is named, and a worker would refuse")
  func doctor() async throws {
    let place = URL(fileURLWithPath: "/var/tmp/cordon-ordinary-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: place) }
    // The build directory may lie where only root can look.
    try FileManager.default.createDirectory(
      at: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    for name in ["cordon", "cordon-warden"] {
      try FileManager.default.copyItem(atPath: buildProduct(named: name), toPath: place.path + "/" + name)
    }
    let groups = try DelegatedGroups(owner: Self.user)
    defer { groups.remove() }

    let doctor = Process()
    doctor.executableURL = URL(fileURLWithPath: "/usr/bin/bash")
    // The process enters the delegated group while it may, then becomes the user, as a service manager does it.
    doctor.arguments = [
      "-c",
      """
      echo $$ > "$1/cgroup.procs" && exec setpriv --reuid \(Self.user) --regid \(Self.user) --clear-groups \
      env -i PATH=/usr/bin:/bin "$2/cordon" doctor --json --cgroup-base "$3"
      """, "bash", groups.unified, place.path, groups.name,
    ]
    let output = Pipe()
    doctor.standardOutput = output
    try doctor.run()
    let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
    doctor.waitUntilExit()
    #expect(doctor.terminationStatus == 3)

    let report = try JSONDecoder().decode(JSONValue.self, from: bytes)
    #expect(report["ready"] == .bool(false))
    let findings = report["findings"]?.array ?? []
    let missing = findings.filter { $0["holds"] == .bool(false) }.compactMap { $0["control"]?.string }
    #expect(missing == ["uids"], "\(findings)")
    let namespaces = findings.first { $0["control"] == .string("namespaces") }
    #expect(namespaces?["detail"]?.string?.contains("user") == true)
    #expect(findings.count > 15)
  }
}

/// Groups of a user's own in every hierarchy Cordon uses, as an administrator delegates them.
private struct DelegatedGroups {
  let name = "cordon-ordinary-\(getpid())"
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
