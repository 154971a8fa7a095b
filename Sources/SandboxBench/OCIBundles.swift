import BenchReport
import Foundation
import Jobs
import Kernel

/// A runtime that takes an OCI bundle.
struct OCIRuntime {
  var name: String
  var options: [String]
  /// It does not start where the v2 hierarchy has controllers beside those on v1.
  var refusesMixedCgroups = false

  // Without it crun asks systemd, where there is one, for a scope; runc does not by itself.
  static let crun = OCIRuntime(name: "crun", options: ["--cgroup-manager=cgroupfs"], refusesMixedCgroups: true)
  static let runc = OCIRuntime(name: "runc", options: [])
}

/// Bundles with a sandbox near to a cell: one for each program and slot, because a bundle names its cgroup.
struct OCIBundles {
  let scratch: String
  let groups: PeerGroups
  let limits: Limits

  func contender(_ runtime: OCIRuntime, executable: String, programs: [Program]) throws -> ProcessContender {
    let state = "\(scratch)/\(runtime.name)-state"
    let root = try makeRoot()
    let tidy: @Sendable () -> Void = {
      // What an interruption left behind; nothing otherwise.
      for container in ProcFile.names(in: state) ?? [] {
        _ = try? Spawn([executable, "--root", state] + runtime.options + ["delete", "--force", container]).run()
      }
    }
    return try ProcessContender(
      name: runtime.name, note: "cgroups, filter, no capability", limitsResources: true, programs: programs,
      surroundings: runtime.refusesMixedCgroups ? groups.hideMixed() : nil, tidy: tidy
    ) { program, slot in
      let container = "\(groups.name)-\(runtime.name)-\(slot)"
      let number = programs.firstIndex(of: program) ?? 0
      let bundle = "\(scratch)/\(runtime.name)-bundle-\(number)-\(slot)"
      try FileManager.default.createDirectory(atPath: bundle, withIntermediateDirectories: true)
      let document = configuration(program, root: root, group: "/\(groups.name)/\(runtime.name)-\(slot)")
      try JSONEncoder().encode(document).write(to: URL(fileURLWithPath: bundle + "/config.json"))
      return .init(measured: [
        try Spawn([executable, "--root", state] + runtime.options + ["run", "--bundle", bundle, container])
      ])
    }
  }

  /// Empty but for the directories that are mounted on and the links into /usr.
  private func makeRoot() throws -> String {
    let root = scratch + "/oci-root"
    for name in ["usr", "proc", "dev", "tmp"] {
      try FileManager.default.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
    }
    for link in SystemRoot.links where symlink(link.target, "\(root)/\(link.name)") != 0 && errno != EEXIST {
      throw BenchError("cannot link \(link.name) in \(root)")
    }
    return root
  }

  private func configuration(_ program: Program, root: String, group: String) -> JSONValue {
    [
      "ociVersion": "1.0.2",
      "root": ["path": .string(root), "readonly": true],
      "hostname": "cell",
      "process": [
        "terminal": false, "cwd": "/", "user": ["uid": 65_534, "gid": 65_534], "noNewPrivileges": true,
        "args": .array(program.arguments.map(JSONValue.string)),
        "env": .array(Program.environment.map { .string("\($0.0)=\($0.1)") }),
        "capabilities": ["bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []],
      ],
      "mounts": [
        mount("/proc", "proc", "proc", ["nosuid", "nodev", "noexec"]),
        mount("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755", "size=64k"]),
        mount("/tmp", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777", "size=\(limits.temporaryBytes)"]),
        mount("/usr", "bind", "/usr", ["rbind", "ro", "nosuid", "nodev"]),
      ],
      "linux": [
        "cgroupsPath": .string(group),
        "namespaces": .array(["pid", "ipc", "uts", "mount", "network", "cgroup"].map { ["type": .string($0)] }),
        "resources": [
          "devices": [["allow": false, "access": "rwm"]],
          "memory": ["limit": .integer(limits.memoryBytes)],
          "pids": ["limit": .integer(limits.pids)],
          "cpu": ["quota": .integer(limits.cpuMillis * 100), "period": 100_000],
        ],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
        "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
        "seccomp": [
          "defaultAction": "SCMP_ACT_ERRNO", "architectures": [.string(OCIFilter.architecture)],
          "syscalls": [
            ["names": .array(OCIFilter.allowed.map(JSONValue.string)), "action": "SCMP_ACT_ALLOW"],
            [
              "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [["index": 0, "value": .integer(OCIFilter.namespaceFlags), "op": "SCMP_CMP_MASKED_EQ"]],
            ],
          ],
        ],
      ],
    ]
  }

  private func mount(_ destination: String, _ type: String, _ source: String, _ options: [String]) -> JSONValue {
    [
      "destination": .string(destination), "type": .string(type), "source": .string(source),
      "options": .array(options.map(JSONValue.string)),
    ]
  }
}
