import Glibc

/// A program run to its end, in a fixed environment: none of our variables (`PGDATA`, `PGOPTIONS`, locale) and none
/// of our descriptors reach it or the server it leaves behind. It has a session of its own: a Ctrl-C at our terminal is
/// ours to act on and must not cut it short.
struct Command {
  struct Outcome {
    /// The exit status; 128 and the signal where a signal ended it.
    let status: Int32
    let output: String

    /// The last line that says something, which is where these programs put the reason.
    var reason: String {
      output.split(whereSeparator: \.isNewline).last { $0.contains(where: { !$0.isWhitespace }) }.map { String($0) }
        ?? "status \(status)"
    }
  }

  /// Our working directory may be closed to the user the program runs as.
  private static let atRoot = ["/usr/bin/env", "-C", "/", "--"]
  /// `POSIX_SPAWN_SETSID` of spawn.h, which the header shows only to GNU sources.
  private static let setSession: Int32 = 0x80
  private static let environment = ["PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"]

  let arguments: [String]

  /// Runs it with nothing on stdin and returns what it wrote to stdout and stderr. Blocks.
  func run() throws(ClusterError) -> Outcome {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      throw ClusterError("start", "socketpair: \(String(cString: strerror(errno)))")
    }
    defer { close(ends[0]) }
    let child: pid_t
    do {
      defer { close(ends[1]) }
      child = try spawn(input: nil, output: ends[1])
    }
    var output: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 12)
    while true {
      let count = read(ends[0], &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      output += chunk[..<count]
    }
    return Outcome(status: Self.wait(for: child), output: String(decoding: output, as: UTF8.self))
  }

  /// Starts it; nil stands for /dev/null. Descriptors above 2 are closed in it.
  func spawn(input: Int32?, output: Int32?) throws(ClusterError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    if let input {
      posix_spawn_file_actions_adddup2(&actions, input, 0)
    } else {
      posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    }
    for target: Int32 in [1, 2] {
      if let output {
        posix_spawn_file_actions_adddup2(&actions, output, target)
      } else {
        posix_spawn_file_actions_addopen(&actions, target, "/dev/null", O_WRONLY, 0)
      }
    }
    // Our own are close-on-exec; this is for those that a library opened without.
    for descriptor in entries(of: "/proc/self/fd").compactMap({ Int32($0) }) where descriptor > 2 {
      posix_spawn_file_actions_addclose(&actions, descriptor)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A caller that blocks or ignores signals must not pass that on to a server.
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | Self.setSession
    posix_spawnattr_setflags(&attributes, Int16(flags))

    var child: pid_t = 0
    let argv = (Self.atRoot + arguments).map { strdup($0) } + [nil]
    let envp = Self.environment.map { strdup($0) } + [nil]
    defer { for copy in argv + envp { free(copy) } }
    let status = posix_spawn(&child, Self.atRoot[0], &actions, &attributes, argv, envp)
    guard status == 0 else {
      throw ClusterError("start", "\(arguments[0]): \(String(cString: strerror(status)))")
    }
    return child
  }

  static func wait(for child: pid_t) -> Int32 {
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { return -1 }
    }
    return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
  }
}
