import CLinux
import Glibc
import Kernel
import WardenProtocol

/// What the warden holds of its host once it has left it: descriptors that were opened before, facts and the filter.
struct Host {
  /// What the processes of a cell execute first.
  var program: CellProgram
  var grounds: JobGrounds
  /// The host's proc filesystem.
  var proc: Descriptor
  /// A pidfd of the warden.
  var own: Descriptor
  /// The warden's own mount namespace, to come back to.
  var mountNamespace: Descriptor
  /// The warden's own network namespace, to come back to.
  var networkNamespace: Descriptor
  /// The one whose copy every cell gets.
  var template: Descriptor
  /// What the kernel calls that.
  var templateIdentity: String?
  /// The staging directory, in the warden's mount namespace.
  var staging: Descriptor
  var cgroups: CgroupArea
  /// Of every cell's init.
  var initFilter: SeccompFilter
  var users: UserAllocator
  let networks = Networks()
  /// Of the process that was started, before it moved anywhere.
  var hostNamespaces: NamespaceIdentities
  var missing: [Refusal]
  /// What outputs on a disk are made with, or why there are none.
  var disk: Result<OutputDisk, Refusal>

  /// Namespaces in which a cell differs from the host.
  var cellNamespaces: Namespaces { grounds.mode == .root ? .cell : Namespaces.cell.union(.user) }

  /// Takes the warden from the host into the template. Only once, before anything else.
  static func prepare(_ configuration: Configuration) throws -> Host {
    _ = setsid()
    cordon_reset_signals()
    // A live cell is about a dozen descriptors.
    _ = cordon_limit(Int32(CORDON_RLIMIT_NOFILE), .max)
    umask(0o022)
    let program = try CellProgram.take()
    let null = try Descriptor.open("/dev/null", O_RDWR)
    let slot = try null.duplicate()
    let proc = try openProc()
    let mode: WardenFacts.Mode = geteuid() == 0 ? .root : .userNamespace
    let users: UserAllocator
    switch mode {
    case .root:
      let block = try refusing { () throws(Unavailable) in
        try UserBlock.claim(
          directory: configuration.locks, first: configuration.firstUser, size: configuration.usersPerBlock,
          blocks: configuration.userBlocks)
      }
      users = UserAllocator(block: block)
    case .userNamespace: users = UserAllocator(single: geteuid())
    }
    let cgroups = try refusing { () throws(Unavailable) in
      try CgroupArea(layout: try .ofHost(proc: proc), base: configuration.cgroupBase, proc: proc)
    }
    let filters = try JobGrounds.compileFilters()
    let initFilter = try requiring("seccomp") { () throws(SystemError) in
      try SeccompFilter.compileForInit(program: CellDescriptors.program)
    }
    let hostNamespaces = try NamespaceIdentities.read("self", proc: proc)
    let disk = OutputDisk.find(directory: configuration.outputs, mode: mode)
    let template: Descriptor
    let templateIdentity: String?
    do {
      try enterNamespaces(mode, proc: proc)
      let fix = "the template needs Linux 5.12 (mount_setattr), a tmpfs and an existing --staging directory"
      (template, templateIdentity) = try requiring("mounts", fix: fix) { () throws(SystemError) in
        let group = { user in mode.group(of: user) }
        let staging = try Template(
          staging: configuration.staging, mode: mode, users: users.passwdEntries, group: group
        ).enter()
        let template = try namespace("mnt", proc)
        let identity = try NamespaceIdentities.read("self", proc: proc).identities["mnt"]
        try Namespaces.mount.unshare()
        try staging.attach(at: Template.Path.staging)
        return (template, identity)
      }
    } catch {
      cgroups.remove(patience: 0)
      throw error
    }
    let landlock = try requiring("landlock") { () throws(SystemError) in try LandlockGrounds.open() }
    let own = try ownProcess()
    return Host(
      program: program,
      grounds: JobGrounds(
        mode: mode, null: null, slot: slot, filters: filters, landlock: landlock, others: [own]),
      proc: proc, own: own,
      mountNamespace: try namespace("mnt", proc), networkNamespace: try namespace("net", proc), template: template,
      templateIdentity: templateIdentity,
      staging: try openStaging(), cgroups: cgroups,
      initFilter: initFilter, users: users,
      hostNamespaces: hostNamespaces, missing: missing(mode: mode, cgroups: cgroups), disk: disk)
  }

  private static func ownProcess() throws -> Descriptor {
    Descriptor(owning: try SystemError.check(cordon_pidfd_open(getpid()), "pidfd_open"))
  }

  private static func namespace(_ name: String, _ proc: Descriptor) throws(SystemError) -> Descriptor {
    try Descriptor.open("self/ns/\(name)", O_RDONLY, at: proc)
  }

  private static func openStaging() throws(SystemError) -> Descriptor {
    try Descriptor.open(Template.Path.staging, O_RDONLY | O_DIRECTORY)
  }

  /// The proc filesystem has to be that of our pid namespace, or pids would mean other processes.
  private static func openProc() throws -> Descriptor {
    let fix = "mount it: mount -t proc proc /proc"
    let proc = try requiring("proc", fix: fix) { () throws(SystemError) in
      try Descriptor.open("/proc", O_RDONLY | O_DIRECTORY)
    }
    let seen = try requiring("proc", fix: fix) { () throws(SystemError) in try proc.readText("self/stat") }
    guard seen.split(separator: " ").first.flatMap({ pid_t($0) }) == getpid() else {
      throw Refusal(control: "proc", stage: "/proc is that of another pid namespace", fix: fix)
    }
    return proc
  }

  private static func enterNamespaces(_ mode: WardenFacts.Mode, proc: Descriptor) throws {
    switch mode {
    case .root:
      // An own network namespace: the warden has no use for any.
      try requiring("namespaces.mnt", fix: "run the warden with CAP_SYS_ADMIN") { () throws(SystemError) in
        try Namespaces([.mount, .network]).unshare()
      }
    case .userNamespace:
      let user = geteuid()
      let group = getegid()
      let fix = """
        run the warden as root, or allow user namespaces: sysctl user.max_user_namespaces, \
        kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0
        """
      try requiring("namespaces.user", fix: fix) { () throws(SystemError) in
        try Namespaces([.user, .mount, .network]).unshare()
        try proc.writeText("deny", to: "self/setgroups")
        try proc.writeText("\(user) \(user) 1", to: "self/uid_map")
        try proc.writeText("\(group) \(group) 1", to: "self/gid_map")
      }
    }
    try requiring("namespaces.mnt", fix: "run the warden with CAP_SYS_ADMIN") { () throws(SystemError) in
      try MountNamespace.makePrivate()
    }
  }

  private static func missing(mode: WardenFacts.Mode, cgroups: CgroupArea) -> [Refusal] {
    var missing: [Refusal] = []
    if !cgroups.boundsSwap {
      missing.append(
        Refusal(
          control: "cgroup.swap", stage: "memory limits do not count swap and the host has swap",
          fix: "boot with swapaccount=1, or swapoff -a"))
    }
    if mode == .userNamespace {
      let fix = "run the warden as root"
      missing.append(Refusal(control: "uids", stage: "all cells run under the warden's own uid", fix: fix))
      if getgroups(0, nil) > 0 {
        missing.append(
          Refusal(control: "groups", stage: "cells keep the warden's supplementary groups", fix: fix))
      }
    }
    return missing
  }
}

/// Hands out host uids: one of its own to each live cell where there is a block of them.
struct UserAllocator {
  private let block: UserBlock?
  private let single: UInt32
  private var taken: Set<UInt32> = []
  private var next: UInt32

  init(block: UserBlock) {
    self.block = block
    single = 0
    next = block.first + 1
  }

  init(single user: UInt32) {
    block = nil
    single = user
    next = user
  }

  /// First uid and how many there are for jobs.
  var range: (first: UInt32, count: UInt32) {
    block.map { ($0.first + 1, $0.count - 1) } ?? (single, 1)
  }

  /// Uid of every cell's init: none of the jobs'. Nil where there is only one uid.
  var initUser: UInt32? { block?.first }

  var passwdEntries: [UInt32] { Array(range.first..<range.first + range.count) }

  /// Nil when every uid is a live cell's. In turn, so that what was a job's is not soon another's.
  mutating func take() -> UInt32? {
    guard block != nil else { return single }
    let (first, count) = range
    for _ in 0..<count {
      let user = next
      next = next - first + 1 < count ? next + 1 : first
      if taken.insert(user).inserted { return user }
    }
    return nil
  }

  mutating func release(_ user: UInt32) { taken.remove(user) }
}

extension WardenFacts.Mode {
  /// Gid of a job: its own like the uid, or the one gid that a user namespace maps.
  func group(of user: UInt32) -> UInt32 { self == .root ? user : getegid() }
}

extension Refusal {
  init(_ control: String, _ error: SystemError, fix: String = "") {
    self.init(control: control, stage: error.stage, errno: error.errno, fix: fix)
  }

  init(_ unavailable: Unavailable) {
    self.init(
      control: unavailable.control, stage: unavailable.stage, errno: unavailable.errno, fix: unavailable.fix)
  }
}

/// Runs `body`; a failing call refuses on behalf of `control`.
@discardableResult
func requiring<Value>(
  _ control: String, fix: String = "", _ body: () throws(SystemError) -> Value
) throws(Refusal) -> Value {
  do { return try body() } catch { throw Refusal(control, error, fix: fix) }
}

func refusing<Value>(_ body: () throws(Unavailable) -> Value) throws(Refusal) -> Value {
  do { return try body() } catch { throw Refusal(error) }
}
