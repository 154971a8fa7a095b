import CCapability
import CLinux
import Glibc

/// Capability sets of the calling process. Only for a process with one thread.
public enum Capabilities {
  /// Empties the bounding, ambient, inheritable, permitted and effective sets, so that nothing the process executes
  /// can hold a capability. Reads the sets back: a set that is not empty is an error.
  ///
  /// Dropping from the bounding set needs CAP_SETPCAP, so this comes before the uid changes.
  public static func dropBounding() throws(SystemError) {
    try SystemError.check(cap_reset_ambient(), "clear ambient capabilities")
    for capability in 0..<cap_max_bits() {
      try SystemError.check(cap_drop_bound(capability), "drop bounding capability \(capability)")
    }
    for capability in 0..<cap_max_bits() where cap_get_bound(capability) != 0 {
      throw SystemError("bounding capability \(capability) is still there", errno: 0)
    }
  }

  /// Empties the inheritable, permitted and effective sets and verifies all five.
  public static func dropAll() throws(SystemError) {
    guard let none = cap_init() else { throw SystemError("cap_init", errno: Glibc.errno) }
    defer { cap_free(UnsafeMutableRawPointer(none)) }
    try SystemError.check(cap_set_proc(none), "drop capabilities")
    guard let present = cap_get_proc() else { throw SystemError("cap_get_proc", errno: Glibc.errno) }
    defer { cap_free(UnsafeMutableRawPointer(present)) }
    guard cap_compare(none, present) == 0 else { throw SystemError("capabilities are still there", errno: 0) }
    for capability in 0..<cap_max_bits() where cap_get_ambient(capability) > 0 {
      throw SystemError("ambient capability \(capability) is still there", errno: 0)
    }
  }
}
