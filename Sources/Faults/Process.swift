import Foundation

/// A process this program started, in a session of its own, so that a Ctrl-C is ours to act on.
final class StartedProcess: @unchecked Sendable {
  let id: pid_t
  private let lock = NSLock()
  private var status: Int32?

  /// `POSIX_SPAWN_SETSID` of spawn.h, which the header shows only to GNU sources.
  private static let setSession: Int32 = 0x80

  /// - Parameters:
  ///   - network: where it is born; nil is where this program is.
  ///   - log: what it writes to stdout and stderr is appended to this file.
  convenience init(
    _ path: String, _ arguments: [String], environment: [String: String], in network: NetworkNamespace? = nil,
    log: String
  ) throws {
    let spawn: @Sendable () throws -> pid_t = { try Self.spawn(path, arguments, environment, log) }
    self.init(id: try network?.within(spawn) ?? spawn())
  }

  private init(id: pid_t) {
    self.id = id
  }

  private static func spawn(
    _ path: String, _ arguments: [String], _ environment: [String: String], _ log: String
  ) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // A connection of a proxy that lived on in a worker would never be over.
    let open = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.compactMap { Int32($0) } ?? []
    for descriptor in open where descriptor > 2 { posix_spawn_file_actions_addclose(&actions, descriptor) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | setSession))
    let argv = ([path] + arguments).map { strdup($0) } + [nil]
    let variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in argv + variables { free(text) } }
    var process: pid_t = 0
    let problem = posix_spawn(&process, path, &actions, &attributes, argv, variables)
    guard problem == 0 else { throw FaultError("cannot start \(path): \(String(cString: strerror(problem)))") }
    return process
  }

  var isRunning: Bool {
    lock.withLock {
      guard status == nil else { return false }
      var raw: Int32 = 0
      guard waitpid(id, &raw, WNOHANG) == id else { return true }
      status = raw
      return false
    }
  }

  /// The exit code, or the signal's number and 128; meaningful once it runs no longer.
  var end: Int32 {
    lock.withLock {
      let raw = status ?? 0
      return raw & 0x7F == 0 ? (raw >> 8) & 0xFF : 128 + (raw & 0x7F)
    }
  }

  /// Nothing once it has ended: its id may be another's by then.
  func signal(_ number: Int32) {
    guard isRunning else { return }
    kill(id, number)
  }

  /// The children of that program's name.
  func children(named name: String) -> [pid_t] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { pid_t($0) } ?? []
    return all.filter { pid in
      let words = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8))?.split(separator: " ") ?? []
      return words.count > 3 && words[1] == "(\(name))" && words[3] == "\(id)"
    }
  }

  /// Runs a program to its end.
  static func run(
    _ path: String, _ arguments: [String], in network: NetworkNamespace? = nil, log: String
  ) async throws {
    let process = try StartedProcess(
      path, arguments, environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], in: network, log: log)
    // Also where this task has been cancelled: what undoes a fault would otherwise only be begun.
    await Task { while process.isRunning { try? await Task.sleep(for: .milliseconds(5)) } }.value
    guard process.end == 0 else { throw FaultError("\(path) \(arguments) ended with \(process.end); see \(log)") }
  }

  /// Runs a program to its end and returns what it wrote.
  /// - Parameter log: the answer lies beside it meanwhile.
  static func answer(
    _ path: String, _ arguments: [String], in network: NetworkNamespace? = nil, log: String
  ) async throws -> Data {
    let file = log + ".answer"
    defer { try? FileManager.default.removeItem(atPath: file) }
    try await run(path, arguments, in: network, log: file)
    return try Data(contentsOf: URL(fileURLWithPath: file))
  }
}

struct FaultError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}
