import BenchReport
import Foundation
import Kernel

/// A command line, ready to be executed: its C strings and descriptors exist before any clock runs.
final class Spawn: Sendable {
  let arguments: [String]
  nonisolated(unsafe) private let argv: [UnsafeMutablePointer<CChar>?]
  nonisolated(unsafe) private let environment: [UnsafeMutablePointer<CChar>?]
  private let null: Descriptor

  init(_ arguments: [String]) throws {
    self.arguments = arguments
    argv = arguments.map { strdup($0) } + [nil]
    environment = Program.environment.map { strdup("\($0.0)=\($0.1)") } + [nil]
    null = try Descriptor.open("/dev/null", O_RDWR)
  }

  deinit {
    for pointer in argv + environment { free(pointer) }
  }

  /// posix_spawn and waitpid, which is all that the plain contender is. Blocks its thread.
  func run() throws -> WaitStatus { try run(errors: null) }

  /// Runs it and throws what it said where it did not end well.
  func runOrExplain() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "cordon-bench-\(UUID().uuidString)").path
    let errors = try Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
    unlink(path)
    let status = try run(errors: errors)
    if status == .exited(0) { return }
    lseek(errors.raw, 0, SEEK_SET)
    let said = String(decoding: try errors.readAll(limit: 1 << 20), as: UTF8.self)
      .split(whereSeparator: \.isNewline).suffix(2).joined(separator: " / ")
    throw BenchError("\(arguments[0]) ended with \(status.shown)" + (said.isEmpty ? "" : ": \(said)"))
  }

  private func run(errors: Descriptor) throws -> WaitStatus {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, null.raw, 0)
    posix_spawn_file_actions_adddup2(&actions, null.raw, 1)
    posix_spawn_file_actions_adddup2(&actions, errors.raw, 2)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // We ignore the signals that interrupt a measurement; what runs must not.
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    for number in [SIGINT, SIGTERM, SIGPIPE] { sigaddset(&signals, number) }
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var process = pid_t()
    let problem = posix_spawn(&process, arguments[0], &actions, &attributes, argv, environment)
    guard problem == 0 else { throw BenchError("cannot start \(arguments[0]): \(String(cString: strerror(problem)))") }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      guard errno == EINTR else { throw BenchError("waitpid: \(String(cString: strerror(errno)))") }
    }
    guard let end = WaitStatus(raw: status) else { throw BenchError("\(arguments[0]) was stopped") }
    return end
  }

  /// The executable of this name on PATH.
  static func find(_ name: String) -> String? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return path.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }
}

extension WaitStatus {
  var shown: String {
    switch self {
    case .exited(let code): "exit status \(code)"
    case .signaled(let signal): "signal \(signal)"
    }
  }
}
