import CLinux
import CSeccomp
import Glibc

/// A compiled seccomp program. Compiled once and loaded into every job; its bytes are what receipts digest.
public struct SeccompFilter: Equatable, Sendable {
  /// The kernel's array of `struct sock_filter`.
  public let instructions: [UInt8]

  /// Compiles the policy of jobs for the architecture this runs on.
  /// - Parameter granted: of jobs that have grants, and so sockets of TCP.
  public static func compile(granted: Bool = false) throws(SystemError) -> SeccompFilter {
    var program = try begin()
    if granted {
      try decide(SystemCallPolicy.granted, in: &program)
    } else {
      try decide(SystemCallPolicy.localOnly, .always(allow), in: &program)
    }
    try decideForJobs(in: &program)
    return SeccompFilter(instructions: program.bytes)
  }

  /// Compiles that of a warden: what it needs, and whatever its jobs may do, because they inherit it.
  public static func compileForWarden() throws(SystemError) -> SeccompFilter {
    var program = try begin()
    try decide(SystemCallPolicy.wardenAllowed, .always(allow), in: &program)
    try decide(SystemCallPolicy.wardenConditional, in: &program)
    try decide(SystemCallPolicy.localOnly, .always(allow), in: &program)
    try decideForJobs(in: &program)
    return SeccompFilter(instructions: program.bytes)
  }

  private static func decideForJobs(in program: inout SeccompProgram) throws(SystemError) {
    for group in SystemCallPolicy.allowed { try decide(group, .always(allow), in: &program) }
    for group in [SystemCallPolicy.absent, SystemCallPolicy.watches] {
      try decide(group, .always(error(ENOSYS)), in: &program)
    }
    try decide(SystemCallPolicy.unsupported, .always(error(EOPNOTSUPP)), in: &program)
    for number in (SystemCallPolicy.newestKnown + 1)...SystemCallPolicy.newestAnswered {
      program.decide(number, .always(error(ENOSYS)))
    }
    try decide(SystemCallPolicy.conditional, in: &program)
  }

  private static func decide(
    _ conditions: [(name: String, alternatives: [[SystemCallPolicy.Comparison]])], in program: inout SeccompProgram
  ) throws(SystemError) {
    for (name, alternatives) in conditions {
      if let number = try resolve(name) { program.decide(number, .whether(alternatives)) }
    }
  }

  /// Compiles the program of a cell's init: a handful of calls, so that it also loads in a fraction of the time (every load
  /// is checked, translated and compiled by the kernel anew).
  ///
  /// - Parameter program: the descriptor it may execute. That is closed by the execve, and it can open no other.
  public static func compileForInit(program descriptor: Int32) throws(SystemError) -> SeccompFilter {
    var program = try begin()
    try decide(SystemCallPolicy.initAllowed, .always(allow), in: &program)
    guard let number = try resolve("execveat") else { throw SystemError("find execveat", errno: ENOSYS) }
    program.decide(number, .whether([[.int(0, Int64(descriptor))]]))
    return SeccompFilter(instructions: program.bytes)
  }

  /// A program that refuses everything. A call by another ABI (32-bit, x32) has other numbers; none of the decisions would
  /// mean what it says.
  private static func begin() throws(SystemError) -> SeccompProgram {
    #if arch(x86_64)
      let architecture: UInt32 = 0xC000_003E
    #elseif arch(arm64)
      let architecture: UInt32 = 0xC000_00B7
    #else
      #error("AUDIT_ARCH_ values are given for x86-64 and arm64")
    #endif
    return SeccompProgram(architecture: architecture, foreign: killProcess, allow: allow, deny: error(EPERM))
  }

  /// Puts the calling thread, and all it executes, under the program. Needs no_new_privs.
  public func load() throws(SystemError) {
    try SystemError.check(cordon_seccomp_load(instructions, instructions.count), "seccomp")
  }

  /// SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO.
  private static let allow: UInt32 = 0x7FFF_0000
  private static let killProcess: UInt32 = 0x8000_0000
  private static func error(_ number: Int32) -> UInt32 { 0x0005_0000 | UInt32(number) }

  private static func decide(
    _ group: SystemCallPolicy.Group, _ decision: SeccompProgram.Decision, in program: inout SeccompProgram
  ) throws(SystemError) {
    for name in group.names.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      if let number = try resolve(String(name)) { program.decide(number, decision) }
    }
  }

  /// Nil for a call this architecture does not have; a name the library does not know at all is our mistake.
  private static func resolve(_ name: String) throws(SystemError) -> UInt32? {
    let number = seccomp_syscall_resolve_name(name)
    guard number != __NR_SCMP_ERROR else { throw SystemError("libseccomp does not know \(name)", errno: 0) }
    return number >= 0 ? UInt32(number) : nil
  }
}
