import CLinux
import Glibc

// Theory of operation
//
// All groups of one warden lie beneath `<base>/<instance>/` in each hierarchy. The instance's name says who owns it:
// pid namespace, pid and start time of the warden, which together never come again while the host is up. A warden
// that starts kills and removes the instances of its own pid namespace whose owner is gone; an instance of another
// namespace is left alone, because its owner cannot be judged from here.
//
// On a unified host a group with controllers for its children may hold no process itself. As root the base is a
// group of its own beneath the root of the hierarchy; without root it is the group that was delegated to us, and the
// processes in it, warden and worker among them, first move to the leaf `supervisor`.

/// The name of an instance directory.
public struct CgroupInstance: Equatable, Sendable {
  /// Inode number of the owner's pid namespace.
  public var namespace: UInt64
  public var owner: ProcessIdentity

  public init(namespace: UInt64, owner: ProcessIdentity) {
    self.namespace = namespace
    self.owner = owner
  }

  public var name: String { "warden-\(namespace)-\(owner.processID)-\(owner.startTicks)" }

  /// Nil when the name is none of ours.
  public init?(name: String) {
    let parts = name.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 4, parts[0] == "warden", let namespace = UInt64(parts[1]), let pid = Int32(parts[2]),
      let ticks = UInt64(parts[3])
    else { return nil }
    self.init(namespace: namespace, owner: ProcessIdentity(processID: pid, startTicks: ticks))
    guard self.name == name else { return nil }
  }

  /// That of the calling process.
  public static func mine(proc: Descriptor) throws(SystemError) -> CgroupInstance {
    let namespaces = try NamespaceIdentities.read("self", proc: proc)
    guard let text = namespaces.identities["pid"], let number = UInt64(text.filter(\.isNumber)),
      let owner = try ProcessIdentity.current(getpid(), proc: proc)
    else { throw SystemError("find own identity in /proc", errno: 0) }
    return CgroupInstance(namespace: number, owner: owner)
  }
}

/// This warden's place in the cgroup hierarchies.
public final class CgroupArea {
  public let isUnified: Bool
  /// False where neither a swap limit nor the lack of swap bounds what a cell may swap out.
  public let boundsSwap: Bool
  private let instance: CgroupInstance
  private let proc: Descriptor
  /// The base directory in each hierarchy, the v2 one first; on a unified host there is only that.
  private let bases: [Descriptor]
  private let own: [Descriptor]

  /// Opens, and where needed makes, this warden's groups.
  ///
  /// - Parameters:
  ///   - base: path beneath the root of each hierarchy, without a slash at either end. Nil: `cordon` for root, the
  ///     v2 group the process is in for others.
  ///   - proc: root of the host's proc filesystem.
  public init(layout: CgroupLayout, base: String?, proc: Descriptor) throws(Unavailable) {
    self.proc = proc
    let fix = "run the warden as root, or delegate a group (systemd: Delegate=yes) and name it with --cgroup-base"
    let found: (instance: CgroupInstance, bases: [Descriptor], own: [Descriptor])
    found = try requiring("cgroup", fix: fix) { () throws(SystemError) in
      let instance = try CgroupInstance.mine(proc: proc)
      let ownGroup = try CgroupArea.ownGroup(proc: proc)
      let path = base ?? (geteuid() == 0 ? "cordon" : ownGroup)
      let bases: [Descriptor]
      switch layout {
      case .unified(let mount):
        bases = [try CgroupArea.openUnified(mount: mount, path: path, isOwn: path == ownGroup)]
      case .hybrid(let mount, let controllers):
        bases = try CgroupArea.openHybrid(mount: mount, controllers: controllers, path: path)
      }
      CgroupArea.sweep(bases, except: instance, proc: proc)
      var own: [Descriptor] = []
      for base in bases {
        if mkdirat(base.raw, instance.name, 0o755) != 0, errno != EEXIST {
          throw SystemError("mkdir cgroup \(path)/\(instance.name)", errno: errno)
        }
        own.append(try Descriptor.open(instance.name, O_RDONLY | O_DIRECTORY, at: base))
      }
      switch layout {
      case .unified: try CgroupArea.enableControllers(in: own[0])
      case .hybrid: try CgroupArea.parents(own).prepare()
      }
      return (instance, bases, own)
    }
    (instance, bases, own) = found
    if case .unified = layout { isUnified = true } else { isUnified = false }
    let swapFile = isUnified ? "memory.swap.max" : "memory.memsw.limit_in_bytes"
    let limited = faccessat(own[isUnified ? 0 : 1].raw, swapFile, F_OK, 0) == 0
    boundsSwap = limited || CgroupArea.hostHasNoSwap(proc: proc)
  }

  /// Fresh groups for one cell.
  public func makeCell(_ name: String) throws(SystemError) -> any CellCgroup {
    if isUnified { return try UnifiedCgroup(name: name, parent: own[0]) }
    return try HybridCgroup(name: name, parents: CgroupArea.parents(own))
  }

  private static func parents(_ own: [Descriptor]) -> HybridCgroup.HybridParents {
    .init(handle: own[0], memory: own[1], pids: own[2], cpu: own[3])
  }

  /// Kills whatever is left in this warden's groups and removes them. Takes at most `patience` milliseconds.
  public func remove(patience: Int) { CgroupArea.remove(instance, in: bases, patience: patience) }

  // MARK: opening

  private static func openHybrid(
    mount: String, controllers: [String: String], path: String
  ) throws(SystemError) -> [Descriptor] {
    var bases = [try makePath(path, beneath: mount)]
    for controller in CgroupLayout.required {
      guard let root = controllers[controller] else {
        throw SystemError("find controller \(controller)", errno: ENOENT)
      }
      bases.append(try makePath(path, beneath: root))
    }
    return bases
  }

  private static func openUnified(mount: String, path: String, isOwn: Bool) throws(SystemError) -> Descriptor {
    let base: Descriptor
    if isOwn {
      base = try makePath(path, beneath: mount)
      try moveProcessesAside(base)
    } else {
      // Each ancestor has to hand the controllers down.
      var directory = try Descriptor.open(mount, O_RDONLY | O_DIRECTORY)
      for component in path.split(separator: "/") {
        try enableControllers(in: directory)
        directory = try makeDirectory(String(component), in: directory)
      }
      base = directory
    }
    try enableControllers(in: base)
    return base
  }

  private static func makePath(_ path: String, beneath mount: String) throws(SystemError) -> Descriptor {
    var directory = try Descriptor.open(mount, O_RDONLY | O_DIRECTORY)
    for component in path.split(separator: "/") { directory = try makeDirectory(String(component), in: directory) }
    return directory
  }

  private static func makeDirectory(_ name: String, in directory: Descriptor) throws(SystemError) -> Descriptor {
    do { return try Descriptor.open(name, O_RDONLY | O_DIRECTORY, at: directory) } catch {
      guard error.errno == ENOENT else { throw error }
      if mkdirat(directory.raw, name, 0o755) != 0, errno != EEXIST {
        throw SystemError("mkdir cgroup \(name)", errno: errno)
      }
      return try Descriptor.open(name, O_RDONLY | O_DIRECTORY, at: directory)
    }
  }

  private static func enableControllers(in directory: Descriptor) throws(SystemError) {
    let enabled = try directory.readText(CgroupFile.subtree).split { $0 == " " || $0 == "\n" }.map(String.init)
    let missing = CgroupLayout.required.filter { !enabled.contains($0) }
    if missing.isEmpty { return }
    try directory.writeText(missing.map { "+\($0)" }.joined(separator: " "), to: CgroupFile.subtree)
  }

  private static func moveProcessesAside(_ base: Descriptor) throws(SystemError) {
    let leaf = try makeDirectory("supervisor", in: base)
    for pid in try base.readText(CgroupFile.processes).split(separator: "\n") {
      do { try leaf.writeText(String(pid), to: CgroupFile.processes) } catch {
        // It may have ended since the list was read.
        guard error.errno == ESRCH else { throw error }
      }
    }
  }

  /// The v2 group the calling process is in, without the leading slash; that of its parent when it is the leaf
  /// `supervisor`, where an earlier warden put it.
  private static func ownGroup(proc: Descriptor) throws(SystemError) -> String {
    for line in try proc.readText("self/cgroup").split(separator: "\n") where line.hasPrefix("0::/") {
      let path = line.dropFirst(4)
      return String(path.hasSuffix("/supervisor") ? path.dropLast("/supervisor".count) : path)
    }
    throw SystemError("find own v2 group", errno: ENOENT)
  }

  /// /proc/swaps has a heading and one line for each area.
  private static func hostHasNoSwap(proc: Descriptor) -> Bool {
    guard let swaps = try? proc.readText("swaps") else { return false }
    return swaps.split(separator: "\n").count <= 1
  }

  // MARK: removing

  /// Removes what wardens of this pid namespace that are gone left behind, from outside: for who saw one die. `base`
  /// as in `init`. Does nothing where no group of ours can be found; takes at most some seconds.
  public static func sweepAbandoned(base: String?) {
    guard let proc = try? Descriptor.open("/proc", O_RDONLY | O_DIRECTORY),
      let mine = try? CgroupInstance.mine(proc: proc), let layout = try? CgroupLayout.ofHost(proc: proc),
      let path = try? base ?? (geteuid() == 0 ? "cordon" : ownGroup(proc: proc))
    else { return }
    let mounts: [String]
    switch layout {
    case .unified(let mount): mounts = [mount]
    case .hybrid(let mount, let controllers): mounts = [mount] + CgroupLayout.required.compactMap { controllers[$0] }
    }
    let bases = mounts.compactMap { try? Descriptor.open("\($0)/\(path)", O_RDONLY | O_DIRECTORY) }
    // The first one holds the groups that kill; without it nothing may be taken for empty.
    guard bases.count == mounts.count else { return }
    sweep(bases, except: mine, proc: proc)
  }

  private static func sweep(_ bases: [Descriptor], except mine: CgroupInstance, proc: Descriptor) {
    for base in bases {
      for name in (try? base.entries()) ?? [] {
        guard let instance = CgroupInstance(name: name), instance.namespace == mine.namespace, instance != mine,
          isDead(instance.owner, proc: proc)
        else { continue }
        remove(instance, in: bases, patience: 2_000)
      }
    }
  }

  /// In doubt a process lives.
  private static func isDead(_ process: ProcessIdentity, proc: Descriptor) -> Bool {
    do { return try ProcessIdentity.current(process.processID, proc: proc) != process } catch { return false }
  }

  /// What cannot be removed now stays for a later sweep; it holds no process by then or the kernel is stuck.
  private static func remove(_ instance: CgroupInstance, in bases: [Descriptor], patience: Int) {
    let flags = O_RDONLY | O_DIRECTORY
    if let group = try? Descriptor.open(instance.name, flags, at: bases[0]) {
      try? group.writeText("1", to: CgroupFile.kill)
    }
    for _ in 0...max(0, patience / 5) {
      var busy = false
      for base in bases {
        guard let group = try? Descriptor.open(instance.name, flags, at: base) else { continue }
        for cell in (try? group.entries()) ?? [] where isDirectory(cell, in: group) {
          if (try? CgroupFile.removeGroup(cell, in: group)) != true { busy = true }
        }
        if (try? CgroupFile.removeGroup(instance.name, in: base)) != true { busy = true }
      }
      if !busy { return }
      usleep(5_000)
    }
  }

  private static func isDirectory(_ name: String, in directory: Descriptor) -> Bool {
    var status = stat()
    return fstatat(directory.raw, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }
}
