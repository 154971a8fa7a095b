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
//            the limits of its groups.
//   start    0, 1 and 2, the working directory, the word that it runs, execve. The socket closes with the execve, which
//            tells the warden that the job runs; if it fails, what failed follows on the socket instead.
//
// No loopback interface is brought up: a cell has no socket that could use it.

/// The main process of one job, from its birth to its wait.
struct JobProcess {
  var host: Host
  var user: UInt32
  var shape: CellShape
  /// What /output is, where it does not lie in memory.
  var disk: DetachedMount?

  private static let hostName = "cell"

  /// The process, waiting, and the roots of /output and /result. The socket is the one in `host.slot`.
  func spawn(
    _ execution: Execution, in cgroup: any CellCgroup, beside initProcess: ProcessHandle
  ) throws(Refusal) -> (process: ProcessHandle, areas: CellFilesystem.Areas) {
    var (areas, refusal): (CellFilesystem.Areas?, Refusal?) = (nil, nil)
    let (process, cause) = try requiring("namespaces.pid") { () throws(SystemError) in
      try ProcessHandle.spawn(execution, beside: initProcess, cgroup: cgroup.handle) {
        do throws(Refusal) {
          let laid = try build(initProcess: initProcess.descriptor, cgroup: cgroup)
          // Kept whatever comes next: they are the warden's to close.
          areas = laid
          try requiring("job") { () throws(SystemError) in try giveUp() }
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

  private func build(
    initProcess: Descriptor, cgroup: any CellCgroup
  ) throws(Refusal) -> CellFilesystem.Areas {
    try requiring("cgroup.attach") { () throws(SystemError) in try cgroup.enter() }
    try requiring("namespaces") { () throws(SystemError) in try Namespaces.joined.enter(initProcess) }
    try requiring("namespaces.cgroup") { () throws(SystemError) in try Namespaces.cgroup.unshare() }
    try requiring("hostname") { () throws(SystemError) in
      try SystemError.check(cordon_sethostname(JobProcess.hostName), "sethostname")
    }
    return try filesystem.lay(disk: disk)
  }

  private var filesystem: CellFilesystem {
    CellFilesystem(mode: host.mode, shape: shape, user: user, group: host.mode.group(of: user))
  }

  private func giveUp() throws(SystemError) {
    try CellDescriptors.takeOwn(socket: host.slot, null: host.null, below: host.reservedDescriptors)
    try SystemError.check(setsid(), "setsid")
    try ResourceLimits.apply(largestFile: filesystem.largestFile)
    umask(0o022)
    // Hosts may refuse keyrings altogether, and the filter refuses every later use of them.
    _ = cordon_new_session_keyring()
    let group = host.mode.group(of: user)
    try SystemError.check(cordon_become(user, group, host.mode == .userNamespace ? 1 : 0), "become uid \(user)")
    try Capabilities.dropAll()
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    // The execve sets every disposition back; what is blocked would stay so.
    try SystemError.check(cordon_unblock_signals(), "sigprocmask")
    if let landlock = host.landlock { try filesystem.restrict(landlock) }
    try CellDescriptors.closeOthers()
    try host.filter.load()
  }
}
