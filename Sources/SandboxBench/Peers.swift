import Foundation
import Jobs
import Kernel

// The peers, each as its own documentation starts it, with a sandbox as near to a cell as it offers: own namespaces,
// a root of nothing but a read-only /usr, private /tmp, /proc and /dev, no capability, and where it can, the limits
// of `limits` in cgroups of its own. Where a peer leaves something out that a cell has, that is to its advantage, and
// its note says so. A peer that is not installed, or does not run here, is named as absent with the reason.

/// Everything that is compared, apart from Cordon.
struct Peers {
  private(set) var contenders: [ProcessContender] = []
  private(set) var absent: [Absentee] = []
  private let groups: PeerGroups

  init(scratch: String, limits: Limits) async throws {
    let groups = try PeerGroups()
    self.groups = groups
    let recipes = PeerRecipes(groups: groups, limits: limits)
    let bundles = OCIBundles(scratch: scratch, groups: groups, limits: limits)
    await add("bwrap", recipes.bubblewrap)
    for runtime in [OCIRuntime.crun, .runc] {
      await add(runtime.name) { try bundles.contender(runtime, executable: $0, programs: PeerRecipes.programs) }
    }
    await add("nsjail", recipes.nsjail)
    await add("isolate", recipes.isolate)
  }

  func close() { groups.remove() }

  private mutating func add(_ name: String, _ make: (_ executable: String) throws -> ProcessContender) async {
    guard let executable = Spawn.find(name) else {
      absent.append(Absentee(name: name, reason: "not installed"))
      return
    }
    do {
      let contender = try make(executable)
      try await contender.explain(.nothing)
      contenders.append(contender)
    } catch {
      absent.append(Absentee(name: name, reason: "does not run here: \(error)"))
    }
  }

  /// The program itself, unconfined.
  static func plain(scratch: String) throws -> ProcessContender {
    try ProcessContender(
      name: "plain", note: "posix_spawn and waitpid, unconfined", limitsResources: false,
      programs: [.nothing, .python, .script]
    ) { program, _ in
      var arguments = program.arguments
      if let script = program.script {
        let path = scratch + "/main.py"
        try script.write(toFile: path, atomically: true, encoding: .utf8)
        arguments = arguments.map { $0 == "/job/main.py" ? path : $0 }
      }
      return .init(measured: [try Spawn(arguments)])
    }
  }

}

/// How each peer is called.
struct PeerRecipes {
  let groups: PeerGroups
  let limits: Limits

  static let programs = [Program.nothing, .python] + Program.probes.flatMap(\.programs)

  func bubblewrap(_ executable: String) throws -> ProcessContender {
    let options = [
      "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr", "--tmpfs", "/tmp",
      "--proc", "/proc", "--dev", "/dev", "--cap-drop", "ALL",
    ]
    let links = SystemRoot.links.flatMap { ["--symlink", $0.target, "/" + $0.name] }
    return try ProcessContender(
      name: "bwrap", note: "no cgroup, no filter", limitsResources: false, programs: Self.programs
    ) { program, _ in .init(measured: [try Spawn([executable] + options + links + ["--"] + program.arguments)]) }
  }

  func nsjail(_ executable: String) throws -> ProcessContender {
    var options = [
      "--mode", "o", "--really_quiet", "--user", "65534", "--group", "65534", "--hostname", "cell",
      "--bindmount_ro", "/usr", "--tmpfsmount", "/tmp", "--rlimit_as", "hard",
      "--cgroup_mem_max", "\(limits.memoryBytes)", "--cgroup_pids_max", "\(limits.pids)",
      "--cgroup_cpu_ms_per_sec", "\(limits.cpuMillis)",
    ]
    for link in SystemRoot.links { options += ["--symlink", "/\(link.target):/\(link.name)"] }
    for device in ["null", "zero", "urandom"] { options += ["--bindmount_ro", "/dev/\(device)"] }
    options += try groups.nsjailOptions()
    return try ProcessContender(
      name: "nsjail", note: "with cgroups, no filter", limitsResources: true, programs: Self.programs
    ) { program, _ in .init(measured: [try Spawn([executable] + options + ["--"] + program.arguments)]) }
  }

  /// A box is made, used and removed for every run; removing it is off the clock of a latency sample.
  func isolate(_ executable: String) throws -> ProcessContender {
    try ProcessContender(
      name: "isolate", note: "no cgroup; a box made for the run", limitsResources: false,
      programs: [.nothing, .python]
    ) { program, slot in
      let box = [executable, "--box-id=\(slot)", "--silent"]
      return .init(
        measured: [
          try Spawn(box + ["--init"]), try Spawn(box + ["--processes=64", "--run", "--"] + program.arguments),
        ],
        afterwards: [try Spawn(box + ["--cleanup"])])
    }
  }
}

/// How this host's root leads into /usr.
enum SystemRoot {
  /// Directories of a merged layout: `bin` is a link to `usr/bin`.
  static let links: [(name: String, target: String)] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].compactMap {
    guard let target = ProcFile.link("/\($0)"), target.hasPrefix("usr/") else { return nil }
    return ($0, target)
  }
}
