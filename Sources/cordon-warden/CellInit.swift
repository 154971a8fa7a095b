import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// Process 1 of a cell. It brings the cell's namespaces into being and keeps them, and it reaps what the job orphans. It
// does nothing else: the job's own process builds the cell, and the warden, whose child that process is, learns from
// the kernel how it ended. So this process gives up everything at once, and then executes `cordon-cell`.
//
// It ends by SIGKILL: from the warden when the cell is over, or by its parent-death signal when the warden dies; the
// kernel then ends whatever is left in the pid namespace.

/// Pid 1 of one cell.
struct CellInit {
  var host: Host

  func spawn() throws(Refusal) -> ProcessHandle {
    var refusal: Refusal?
    let network = host.networks.take()
    var begun = Namespaces.begun.subtracting(.mount)
    if network != nil { begun.subtract(.network) }
    let (process, cause) = try requiring(
      "namespaces", fix: "allow namespaces: sysctl user.max_*_namespaces; CAP_SYS_ADMIN in a container"
    ) { () throws(SystemError) in
      try ProcessHandle.spawn(host.program.initExecution, namespaces: begun) {
        do throws(SystemError) {
          if let network { try Namespaces.network.enter(network) }
          try copyTemplate()
          try giveUp()
        } catch { refusal = Refusal("cell", error) }
        return refusal == nil
      }
    }
    if cause != 0 { refusal = Refusal(control: "cell", stage: "execute the cell's init", errno: cause) }
    guard let refusal else { return process }
    process.end()
    throw refusal
  }

  /// In the new process, whose memory is the warden's. Not by its clone: that would copy the warden's own mounts, and to
  /// take away from a copy what is not for jobs costs more than the copy.
  private func copyTemplate() throws(SystemError) {
    try Namespaces.mount.enter(host.template)
    if Namespaces.begun.contains(.mount) { try Namespaces.mount.unshare() }
  }

  private func giveUp() throws(SystemError) {
    try CellDescriptors.takeOwn(socket: nil, null: host.grounds.null, below: host.grounds.reservedDescriptors)
    // Nil where there is only the job's.
    if let user = host.users.initUser { try SystemError.check(cordon_become(user, user, 0), "become uid \(user)") }
    try Capabilities.dropAll()
    // Cleared by the change of uid; the warden may have died meanwhile, when there was no signal for it.
    try SystemError.check(cordon_die_with_parent(), "prctl pdeathsig")
    var isGone = pollfd(fd: host.own.raw, events: Int16(POLLIN), revents: 0)
    guard poll(&isGone, 1, 0) == 0 else { throw SystemError("the warden is gone", errno: ESRCH) }
    CellInit.blockChildSignal()
    try CellDescriptors.closeOthers(beyond: CellDescriptors.program)
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    try host.initFilter.load()
  }

  private static func blockChildSignal() {
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, SIGCHLD)
    sigprocmask(SIG_BLOCK, &set, nil)
  }
}

extension ProcessHandle {
  /// Kills and reaps a child that is of no use; one that the kernel does not end within a second stays.
  func end() {
    try? signal(SIGKILL)
    for _ in 0..<1_000 where (try? reap()) == .some(nil) { usleep(1_000) }
  }
}
