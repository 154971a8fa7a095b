import CCapability
import CLinux
import Glibc
import Kernel
import WardenProtocol

// What the warden gives up before its first order. A worker that was taken over, or a flaw in this program, then finds a
// process without a network, that can gain nothing by executing, and whose system calls end where making cells ends.
// The bounding set, no_new_privs and the filter are inherited by every cell, which adds its own upon them.

enum OwnConfinement {
  /// Why each is kept.
  private static let kept: [(capability: Int32, reason: String)] = [
    (CAP_SYS_ADMIN, "namespaces and mounts"),
    (CAP_SYS_CHROOT, "to enter a mount namespace"),
    (CAP_SETUID, "a cell's uid"),
    (CAP_SETGID, "a cell's gid"),
    (CAP_KILL, "to end a cell's processes"),
    (CAP_CHOWN, "a job's pipes are the job's"),
    (CAP_DAC_READ_SEARCH, "to open a job's outputs for the worker"),
    (CAP_NET_ADMIN, "a cell's loopback interface; the warden's own network is an empty one"),
    (CAP_NET_BIND_SERVICE, "a cell's listeners on ports below 1024"),
    (CAP_SYS_PTRACE, "to see which namespaces a cell is in"),
  ]

  /// Before the filter is loaded nothing of a job's exists; after it the warden may only do what `SystemCallPolicy` says
  /// of wardens. Only once, when everything that takes more is done.
  static func apply() throws(Refusal) {
    try requiring("warden.capabilities") { () throws(SystemError) in
      // For zygotes, which are this program and stay under its filter; everything else drops them before it executes.
      try Capabilities.makeInheritable(kept.map(\.capability))
      try Capabilities.dropBounding()
      try Capabilities.keep(only: kept.map(\.capability))
    }
    try requiring("warden.limits") { () throws(SystemError) in try ResourceLimits.applyFixed() }
    try requiring("warden.filter") { () throws(SystemError) in
      try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
      try SeccompFilter.compileForWarden().load()
    }
  }
}
