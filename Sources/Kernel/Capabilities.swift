import CCapability
import CLinux
import Glibc

/// Capability sets of the calling process. Only for a process with one thread.
public enum Capabilities {
  /// Empties the bounding and ambient sets, so that nothing that this process or a child of it executes can gain a
  /// capability: neither set ever grows again, but in a new user namespace. Reads the bounding set back.
  ///
  /// Needs CAP_SETPCAP.
  public static func dropBounding() throws(SystemError) {
    try SystemError.check(cap_reset_ambient(), "clear ambient capabilities")
    for capability in 0..<cap_max_bits() {
      try SystemError.check(cap_drop_bound(capability), "drop bounding capability \(capability)")
    }
    for capability in 0..<cap_max_bits() where cap_get_bound(capability) != 0 {
      throw SystemError("bounding capability \(capability) is still there", errno: 0)
    }
  }

  /// Makes these the inheritable set, as far as they are permitted. With it a program can be given them although the bounding
  /// set is empty; it takes them from the bounding set, so it comes before `dropBounding`.
  public static func makeInheritable(_ kept: [Int32]) throws(SystemError) { try set([CAP_INHERITABLE], to: kept) }

  /// Keeps these of the permitted, effective and inheritable sets, as far as they are permitted and, for the last, there.
  public static func keep(only kept: [Int32]) throws(SystemError) {
    try set([CAP_PERMITTED, CAP_EFFECTIVE, CAP_INHERITABLE], to: kept)
  }

  private static func set(_ flags: [cap_flag_t], to kept: [Int32]) throws(SystemError) {
    guard let sets = cap_get_proc() else { throw SystemError("cap_get_proc", errno: Glibc.errno) }
    defer { cap_free(UnsafeMutableRawPointer(sets)) }
    var permitted = CAP_CLEAR
    let present = kept.filter { cap_get_flag(sets, $0, CAP_PERMITTED, &permitted) == 0 && permitted == CAP_SET }
    for flag in flags { try SystemError.check(cap_clear_flag(sets, flag), "clear capabilities") }
    for flag in flags where !present.isEmpty {
      try SystemError.check(cap_set_flag(sets, flag, Int32(present.count), present, CAP_SET), "choose capabilities")
    }
    try SystemError.check(cap_set_proc(sets), "drop capabilities")
  }

  /// What the inheritable set has stays with the program that this process executes next, whoever it runs as.
  public static func keepOnExecute() throws(SystemError) {
    guard let sets = cap_get_proc() else { throw SystemError("cap_get_proc", errno: Glibc.errno) }
    defer { cap_free(UnsafeMutableRawPointer(sets)) }
    for capability in 0..<cap_max_bits() {
      var value = CAP_CLEAR
      guard cap_get_flag(sets, capability, CAP_INHERITABLE, &value) == 0, value == CAP_SET else { continue }
      try SystemError.check(cap_set_ambient(capability, CAP_SET), "raise ambient capability \(capability)")
    }
  }

  /// Empties the inheritable, permitted and effective sets and reads them back. The kernel empties the ambient set with
  /// them.
  public static func dropAll() throws(SystemError) {
    guard let none = cap_init() else { throw SystemError("cap_init", errno: Glibc.errno) }
    defer { cap_free(UnsafeMutableRawPointer(none)) }
    try SystemError.check(cap_set_proc(none), "drop capabilities")
    guard let present = cap_get_proc() else { throw SystemError("cap_get_proc", errno: Glibc.errno) }
    defer { cap_free(UnsafeMutableRawPointer(present)) }
    guard cap_compare(none, present) == 0 else { throw SystemError("capabilities are still there", errno: 0) }
  }
}
