import CLinux
import CSeccomp
import Glibc

/// A compiled seccomp program. Compiled once and loaded into every job; its bytes are what receipts digest.
public struct SeccompFilter: Equatable, Sendable {
  /// The kernel's array of `struct sock_filter`.
  public let instructions: [UInt8]

  /// Compiles the policy for the architecture this runs on.
  public static func compile() throws(SystemError) -> SeccompFilter {
    let context = try begin()
    defer { seccomp_release(context) }
    // A binary tree over the numbers: some eight comparisons a call where a list takes hundreds.
    try set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
    for group in SystemCallPolicy.allowed { try add(group, action: allow, to: context) }
    for group in [SystemCallPolicy.absent, SystemCallPolicy.watches] {
      try add(group, action: error(ENOSYS), to: context)
    }
    try add(SystemCallPolicy.unsupported, action: error(EOPNOTSUPP), to: context)
    for number in (SystemCallPolicy.newestKnown + 1)...SystemCallPolicy.newestAnswered {
      try add(number, named: "\(number)", action: error(ENOSYS), [], to: context)
    }
    for (name, alternatives) in SystemCallPolicy.conditional {
      guard let number = try resolve(name) else { continue }
      for comparisons in alternatives { try add(number, named: name, action: allow, comparisons, to: context) }
    }
    return SeccompFilter(instructions: try export(context))
  }

  /// Compiles the program of a cell's init: a handful of calls, so that it also loads in a fraction of the time (every load
  /// is checked, translated and compiled by the kernel anew).
  public static func compileForInit() throws(SystemError) -> SeccompFilter {
    let context = try begin()
    defer { seccomp_release(context) }
    try add(SystemCallPolicy.initAllowed, action: allow, to: context)
    return SeccompFilter(instructions: try export(context))
  }

  /// A program that refuses everything. The caller releases it.
  private static func begin() throws(SystemError) -> scmp_filter_ctx {
    guard let context = seccomp_init(deny) else { throw SystemError("seccomp_init", errno: ENOMEM) }
    // A call by another ABI (32-bit, x32) has other numbers; none of the rules would mean what it says.
    try set(context, SCMP_FLTATR_ACT_BADARCH, killProcess)
    // no_new_privs is ours to set; the library must not.
    try set(context, SCMP_FLTATR_CTL_NNP, 0)
    return context
  }

  /// Puts the calling thread, and all it executes, under the program. Needs no_new_privs.
  public func load() throws(SystemError) {
    try SystemError.check(cordon_seccomp_load(instructions, instructions.count), "seccomp")
  }

  private static let allow: UInt32 = 0x7FFF_0000
  private static let killProcess: UInt32 = 0x8000_0000
  private static var deny: UInt32 { error(EPERM) }

  private static func error(_ number: Int32) -> UInt32 { 0x0005_0000 | UInt32(number) }

  private static func set(_ context: scmp_filter_ctx, _ attribute: scmp_filter_attr, _ value: UInt32)
    throws(SystemError)
  {
    try check(seccomp_attr_set(context, attribute, value), "seccomp_attr_set")
  }

  private static func add(
    _ group: SystemCallPolicy.Group, action: UInt32, to context: scmp_filter_ctx
  ) throws(SystemError) {
    for name in group.names.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      guard let number = try resolve(String(name)) else { continue }
      try add(number, named: String(name), action: action, [], to: context)
    }
  }

  private static func add(
    _ number: Int32, named name: String, action: UInt32, _ comparisons: [SystemCallPolicy.Comparison],
    to context: scmp_filter_ctx
  ) throws(SystemError) {
    let compared = comparisons.map {
      scmp_arg_cmp(arg: $0.index, op: SCMP_CMP_MASKED_EQ, datum_a: $0.mask, datum_b: $0.value)
    }
    try check(
      seccomp_rule_add_array(context, action, number, UInt32(compared.count), compared), "seccomp rule \(name)")
  }

  /// Nil for a call this architecture does not have; a name the library does not know at all is our mistake.
  private static func resolve(_ name: String) throws(SystemError) -> Int32? {
    let number = seccomp_syscall_resolve_name(name)
    guard number != __NR_SCMP_ERROR else { throw SystemError("libseccomp does not know \(name)", errno: 0) }
    return number >= 0 ? number : nil
  }

  private static func export(_ context: scmp_filter_ctx) throws(SystemError) -> [UInt8] {
    let memory = Descriptor(owning: try SystemError.check(cordon_memfd("cordon-filter"), "memfd_create"))
    try check(seccomp_export_bpf(context, memory.raw), "seccomp_export_bpf")
    try SystemError.check(lseek(memory.raw, 0, SEEK_SET), "rewind filter")
    return try memory.readAll(limit: 4_096 * 8)
  }

  /// The library returns negative errno values.
  private static func check(_ result: Int32, _ stage: @autoclosure () -> String) throws(SystemError) {
    guard result == 0 else { throw SystemError(stage(), errno: -result) }
  }
}
