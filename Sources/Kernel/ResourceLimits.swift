import CLinux

/// Limits on the calling process that hold for everything it executes; soft and hard alike.
public enum ResourceLimits {
  /// What every job gets, whatever its order says, and the warden with it.
  private static let fixed: [(name: String, resource: Int, value: UInt64)] = [
    // No core dumps: the host's core handler must never see a cell.
    ("core", Int(CORDON_RLIMIT_CORE), 0),
    ("memlock", Int(CORDON_RLIMIT_MEMLOCK), 64 << 10),
    // POSIX queues and pending signals are accounted to a uid, not to a cgroup.
    ("msgqueue", Int(CORDON_RLIMIT_MSGQUEUE), 0),
    ("sigpending", Int(CORDON_RLIMIT_SIGPENDING), 1_024),
    ("nice", Int(CORDON_RLIMIT_NICE), 0),
    ("rtprio", Int(CORDON_RLIMIT_RTPRIO), 0),
  ]

  /// The customary soft limit, enough for any batch program; descriptors are kernel memory.
  private static let descriptors: UInt64 = 1_024

  /// Those that hold for the warden too: its children begin with them.
  public static func applyFixed() throws(SystemError) {
    for (name, resource, value) in fixed {
      try SystemError.check(cordon_limit(Int32(resource), value), "setrlimit \(name)")
    }
  }

  /// Those of a job alone.
  ///
  /// - Parameter largestFile: bytes one file may have; above the size of every writable filesystem of the cell,
  ///   so that a full filesystem shows as ENOSPC and SIGXFSZ is only the second line.
  public static func apply(largestFile: UInt64) throws(SystemError) {
    try SystemError.check(cordon_limit(Int32(CORDON_RLIMIT_NOFILE), descriptors), "setrlimit nofile")
    try SystemError.check(cordon_limit(Int32(CORDON_RLIMIT_FSIZE), largestFile), "setrlimit fsize")
  }
}
