import BenchReport
import Glibc
import Kernel

/// The cgroups that peers make theirs beneath, one in each hierarchy; on a host with one hierarchy, that one.
struct PeerGroups: Sendable {
  /// Relative to the root of each hierarchy.
  let name = "cordon-bench-\(getpid())"
  private let layout: CgroupLayout

  init() throws {
    layout = try CgroupLayout.ofHost(proc: try Descriptor.open("/proc", O_RDONLY | O_DIRECTORY))
  }

  /// Tells nsjail where, and makes what it expects to be there.
  func nsjailOptions() throws -> [String] {
    switch layout {
    case .unified(let mount):
      // A group hands on what its parent handed to it, so from the root down.
      for path in [mount, "\(mount)/\(name)"] {
        mkdir(path, 0o755)
        try Descriptor.open(path, O_RDONLY | O_DIRECTORY).writeText(
          CgroupLayout.required.map { "+" + $0 }.joined(separator: " "), to: "cgroup.subtree_control")
      }
      return ["--use_cgroupv2", "--cgroupv2_mount", "\(mount)/\(name)"]
    case .hybrid(_, let controllers):
      return try [("memory", "mem"), ("pids", "pids"), ("cpu", "cpu")].flatMap { controller, option in
        guard let mount = controllers[controller] else { throw BenchError("no hierarchy has \(controller)") }
        mkdir("\(mount)/\(name)", 0o755)
        return ["--cgroup_\(option)_mount", mount, "--cgroup_\(option)_parent", name]
      }
    }
  }

  /// Where the v2 hierarchy has controllers of its own beside those on v1: what takes it out of the calling thread's
  /// sight, and so of the sight of what that thread spawns. Nil where there is nothing to hide.
  func hideMixed() -> (@Sendable () throws -> Void)? {
    guard case .hybrid(let mount, _) = layout,
      ProcFile.text(mount + "/cgroup.controllers")?.contains(where: \.isLetter) == true
    else { return nil }
    return {
      // A mount namespace is a thread's own; the rest of this process stays where it is.
      try Namespaces.mount.unshare()
      try MountNamespace.makePrivate()
      try MountNamespace.unmount(mount)
    }
  }

  /// Runtimes make theirs in every hierarchy there is, not only in those that limit.
  func remove() {
    for line in (ProcFile.text("/proc/self/mountinfo") ?? "").split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard let dash = fields.firstIndex(of: "-"), fields.count > dash + 1, fields[dash + 1].hasPrefix("cgroup") else {
        continue
      }
      Self.remove("\(fields[4])/\(name)")
    }
  }

  private static func remove(_ path: String) {
    for child in ProcFile.names(in: path) ?? [] { remove("\(path)/\(child)") }
    // Files of a group refuse and go with it.
    rmdir(path)
  }
}
