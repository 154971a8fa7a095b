import Foundation

/// A child process by posix_spawn. Foundation's Process was used first: under some thousand starts in one test run it
/// crashed inside `run()`.
final class Child: @unchecked Sendable {
  let arguments: [String]
  let processIdentifier: pid_t
  private let lock = NSLock()
  private var status: Int32?

  /// Starts `path` with the three standard streams on files.
  init(
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
    let argv = ([path] + arguments).map { strdup($0) } + [nil]
    let variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in argv + variables { free(text) } }
    var pid: pid_t = 0
    let problem = posix_spawn(&pid, path, &actions, nil, argv, variables)
    guard problem == 0 else { throw Problem("cannot start \(path): errno \(problem)") }
    processIdentifier = pid
  }

  var isRunning: Bool {
    lock.withLock {
      guard status == nil else { return false }
      var raw: Int32 = 0
      guard waitpid(processIdentifier, &raw, WNOHANG) == processIdentifier else { return true }
      status = raw
      return false
    }
  }

  /// The exit code, or the signal that ended it; meaningful once it no longer runs.
  var terminationStatus: Int32 {
    lock.withLock {
      let raw = status ?? 0
      return raw & 0x7F == 0 ? (raw >> 8) & 0xFF : raw & 0x7F
    }
  }
}
