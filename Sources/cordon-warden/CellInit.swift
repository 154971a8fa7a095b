import CLinux
import Glibc
import Kernel

// Theory of operation
//
// Process 1 of a cell, in the forked image of the warden; it brings the cell's namespaces into being and keeps them, and
// it reaps what the job orphans. It does nothing else: the job's own process builds the cell, and the warden, whose
// child that process is, learns from the kernel how it ended. So this process can give up everything at once.
//
// It waits before it does, until the job's process has joined its namespaces: where the warden is an ordinary user, the
// kernel refuses to join those of a process that is not dumpable. The gate is a pipe whose writing ends are the warden's
// and the job process's; its end of file says that both have gone on.
//
// It ends by SIGKILL: from the warden when the cell is over, or by its parent-death signal when the warden dies; the
// kernel then ends whatever is left in the pid namespace.

/// Pid 1 of one cell.
struct CellInit {
  /// Uid and gid of this process; nil where there is only the job's.
  var user: UInt32?
  var filter: SeccompFilter

  /// Never returns. `warden` is a pidfd of the process that made this one.
  func run(gate: Descriptor, warden: Descriptor, null: Descriptor) -> Never {
    do throws(SystemError) {
      try SystemError.check(cordon_die_with_parent(), "prctl pdeathsig")
      let (gate, warden) = CellDescriptors.keepOnly(gate, warden, null: null)
      var byte: UInt8 = 0
      while read(gate, &byte, 1) < 0, errno == EINTR {}
      try giveUp(warden: warden)
    } catch {
      // The end of this process ends the cell; the warden sees that.
      _exit(1)
    }
    var status: Int32 = 0
    // No children: none may come before a job orphans one, and then there is a signal for it.
    while true { if waitpid(-1, &status, 0) < 0, errno == ECHILD { CellInit.waitForOrphan() } }
  }

  private func giveUp(warden: Int32) throws(SystemError) {
    try Capabilities.dropBounding()
    if let user { try SystemError.check(cordon_become(user, user, 0), "become uid \(user)") }
    try Capabilities.dropAll()
    try SystemError.check(cordon_not_dumpable(), "prctl dumpable")
    // Cleared by the change of uid; the warden may have died meanwhile, when there was no signal for it.
    try SystemError.check(cordon_die_with_parent(), "prctl pdeathsig")
    var isGone = pollfd(fd: warden, events: Int16(POLLIN), revents: 0)
    guard poll(&isGone, 1, 0) == 0 else { throw SystemError("the warden is gone", errno: ESRCH) }
    CellInit.blockChildSignal()
    cordon_close_range(UInt32(CellDescriptors.first), UInt32.max)
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    try filter.load()
  }

  private static func blockChildSignal() {
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, SIGCHLD)
    sigprocmask(SIG_BLOCK, &set, nil)
  }

  private static func waitForOrphan() {
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, SIGCHLD)
    _ = sigwaitinfo(&set, nil)
  }
}
