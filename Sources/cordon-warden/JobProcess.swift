import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// The main process of a job, born in the cell's pid namespace and its groups; the warden is its parent and learns from the
// kernel how it ended. It builds the cell and makes itself harmless, in the warden's memory and while the warden waits;
// then it executes what waits for the order, so that as little as possible is left to do when one comes. In this order,
// and the order matters:
//
//   enter    the v1 groups, so that everything it makes from here on is charged to the cell; the namespaces of the cell's
//            init; a cgroup namespace, now that the groups are known.
//   build    host name, /proc and the cell's filesystems (`CellFilesystem`), whose roots stay with the warden.
//   give up  descriptors but its own, terminal session, resources, keyring, groups and uid, all capabilities (the bounding
//            set was the warden's to empty), the right to gain any (no_new_privs), inherited signal state, files beyond the
//            granted (Landlock), and last the system calls (the filter). From here on it is as confined as the job.
//   wait     in `cordon-cell`, or an interpreter with a program of ours (`PythonProgram`): the order comes, or end of
//            file: the warden has no use for this cell, or is gone. Only now, with memory of its own, is it put under
//            the limits of its groups. One that is forked from a zygote (`ZygoteProcess`) does all this in a copy of
//            that interpreter's memory instead, and executes nothing.
//   start    0, 1 and 2, the working directory, the word that it runs, execve. The socket closes with the execve, which
//            tells the warden that the job runs; if it fails, what failed follows on the socket instead.
//
// The loopback interface is brought up with the listeners of an order (`CellListeners`); other cells have no socket that could
// use it.

/// What it takes to make a process harmless; the same for every cell of a warden.
struct JobGrounds {
  var mode: WardenFacts.Mode
  var null: Descriptor
  /// Where the end of a new cell's socket is put for its process; /dev/null while there is none.
  var slot: Descriptor
  /// Of every job, and of one that has a network.
  var filter: SeccompFilter
  var networkFilter: SeccompFilter
  /// Nil where the kernel has none.
  var landlock: LandlockGrounds?
  /// Every descriptor that such a process needs has a number below this.
  var reservedDescriptors: Int32

  init(
    mode: WardenFacts.Mode, null: Descriptor, slot: Descriptor, filters: (local: SeccompFilter, network: SeccompFilter),
    landlock: LandlockGrounds?, others: [Descriptor] = []
  ) {
    self.mode = mode
    self.null = null
    self.slot = slot
    (filter, networkFilter) = filters
    self.landlock = landlock
    let needed = ([null, slot] + others).map(\.raw) + (landlock?.shared.map(\.place.number) ?? [])
    reservedDescriptors = 1 + needed.max()!
  }

  static func compileFilters() throws(Refusal) -> (local: SeccompFilter, network: SeccompFilter) {
    try requiring("seccomp", fix: "install libseccomp 2.5 or later") { () throws(SystemError) in
      (try SeccompFilter.compile(), try SeccompFilter.compile(granted: true))
    }
  }
}

/// The main process of one job, from its birth to its wait.
struct JobProcess {
  var grounds: JobGrounds
  var user: UInt32
  var shape: CellShape
  /// What /output is, where it does not lie in memory.
  var disk: DetachedMount?

  private static let hostName = "cell"

  /// The process, waiting, and the roots of /output and /result. The socket is the one in the slot.
  func spawn(
    _ execution: Execution, in entrance: CgroupEntrance, beside initProcess: ProcessHandle, own: Descriptor?
  ) throws(Refusal) -> (process: ProcessHandle, areas: CellFilesystem.Areas) {
    var (areas, refusal): (CellFilesystem.Areas?, Refusal?) = (nil, nil)
    let (process, cause) = try requiring("namespaces.pid") { () throws(SystemError) in
      try ProcessHandle.spawn(execution, beside: initProcess, own: own, cgroup: entrance.handle) {
        do throws(Refusal) {
          let laid = try build(initProcess: initProcess.descriptor, entrance: entrance)
          // Kept whatever comes next: they are the warden's to close.
          areas = laid
          try requiring("job") { () throws(SystemError) in try giveUp(keeping: CellDescriptors.program) }
          return true
        } catch {
          refusal = error
          return false
        }
      }
    }
    if cause != 0 { refusal = Refusal(control: "cell", stage: "execute what waits for the order", errno: cause) }
    if refusal == nil, let areas { return (process, areas) }
    process.end()
    throw refusal ?? Refusal(control: "cell", stage: "the cell's process ended while it was built")
  }

  /// In the process itself, born in the pid namespace of `initProcess` and the handle of `entrance`.
  func build(initProcess: Descriptor, entrance: CgroupEntrance) throws(Refusal) -> CellFilesystem.Areas {
    try requiring("cgroup.attach") { () throws(SystemError) in try entrance.enter() }
    try requiring("namespaces") { () throws(SystemError) in try Namespaces.joined.enter(initProcess) }
    try requiring("namespaces.cgroup") { () throws(SystemError) in try Namespaces.cgroup.unshare() }
    try requiring("hostname") { () throws(SystemError) in
      try SystemError.check(cordon_sethostname(JobProcess.hostName), "sethostname")
    }
    return try filesystem.lay(disk: disk)
  }

  private var filesystem: CellFilesystem {
    CellFilesystem(mode: grounds.mode, shape: shape, user: user, group: grounds.mode.group(of: user))
  }

  /// Closes all descriptors beyond `last`.
  func giveUp(keeping last: Int32) throws(SystemError) {
    try CellDescriptors.takeOwn(socket: grounds.slot, null: grounds.null, below: grounds.reservedDescriptors)
    try SystemError.check(setsid(), "setsid")
    try ResourceLimits.apply(largestFile: filesystem.largestFile)
    umask(0o022)
    // Hosts may refuse keyrings altogether, and the filter refuses every later use of them.
    _ = cordon_new_session_keyring()
    let group = grounds.mode.group(of: user)
    try SystemError.check(cordon_become(user, group, grounds.mode == .userNamespace ? 1 : 0), "become uid \(user)")
    try Capabilities.dropAll()
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    // The execve sets every disposition back; what is blocked would stay so.
    try SystemError.check(cordon_unblock_signals(), "sigprocmask")
    if let landlock = grounds.landlock { try filesystem.restrict(landlock) }
    try CellDescriptors.closeOthers(beyond: last)
    try (shape.isNetworked ? grounds.networkFilter : grounds.filter).load()
  }
}
