import Foundation

/// A child process by posix_spawn. Foundation's Process was used first: under some thousand starts in one test run it
/// crashed inside `run()`.
public final class Child: @unchecked Sendable {
  public let arguments: [String]
  public let processIdentifier: pid_t
  private let lock = NSLock()
  private var status: Int32?

  /// Starts `path` with the three standard streams on files.
  public init(
    _ path: String, _ arguments: [String], environment: [String: String], stdin: String, stdout: String, stderr: String
  )
    throws
  {
    self.arguments = arguments
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, stdin, O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, stdout, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_addopen(&actions, 2, stderr, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    // The threads of Swift's pool block signals, and a child would inherit that.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    let argv = ([path] + arguments).map { strdup($0) } + [nil]
    let variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in argv + variables { free(text) } }
    var pid: pid_t = 0
    let problem = posix_spawn(&pid, path, &actions, &attributes, argv, variables)
    guard problem == 0 else { throw Problem("cannot start \(path): errno \(problem)") }
    processIdentifier = pid
  }

  public var isRunning: Bool {
    lock.withLock {
      guard status == nil else { return false }
      var raw: Int32 = 0
      guard waitpid(processIdentifier, &raw, WNOHANG) == processIdentifier else { return true }
      status = raw
      return false
    }
  }

  /// The exit code, or the signal that ended it; meaningful once it no longer runs.
  public var terminationStatus: Int32 {
    lock.withLock {
      let raw = status ?? 0
      return raw & 0x7F == 0 ? (raw >> 8) & 0xFF : raw & 0x7F
    }
  }
}
