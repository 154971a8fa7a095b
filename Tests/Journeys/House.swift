import Foundation
import Jobs
import TestKit

/// A directory with its own `cordon up`: PostgreSQL, schema and worker, through the real binary.
actor House {
  let directory: URL
  private(set) var up: RunningTool
  nonisolated let tool: Tool

  /// One house that the journeys share which only enqueue and look.
  static let shared = Task { try await House(slots: 4) }

  init(slots: Int, options: [String] = []) async throws {
    // PostgreSQL runs as its own user and must be able to reach its directory.
    directory = URL(fileURLWithPath: "/var/tmp/cordon-journeys-\(UUID().uuidString)")
    try FileManager.default.createDirectory(
      at: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    up = try RunningTool(
      ["up", "--data", directory.path, "--slots", String(slots)] + options,
      environment: ProcessInfo.processInfo.environment)
    tool = Tool(url: try await Self.url(printedBy: up))
    Cleanup.register(up.process.processIdentifier, directory)
  }

  /// Waits for the one line `up` prints.
  static func url(printedBy up: RunningTool) async throws -> String {
    let end = ContinuousClock.now + .seconds(60)
    while ContinuousClock.now < end {
      for line in String(decoding: up.stdout, as: UTF8.self).split(separator: "\n") {
        if line.hasPrefix("CORDON_DATABASE_URL=") { return String(line.dropFirst("CORDON_DATABASE_URL=".count)) }
      }
      guard up.process.isRunning else { throw Problem("`cordon up` ended: \(up.stderr)") }
      try await Task.sleep(for: .milliseconds(50))
    }
    throw Problem("`cordon up` printed no URL: \(up.stderr)")
  }

  /// Asks `up` to leave and waits for it.
  func close() async throws {
    up.signal(SIGTERM)
    _ = try await up.answer(limit: .seconds(60))
    try FileManager.default.removeItem(at: directory)
  }
}

/// Ends the houses still standing when the test process exits.
enum Cleanup {
  nonisolated(unsafe) private static var houses: [(pid: pid_t, directory: URL)] = []
  private static let lock = NSLock()

  static func register(_ pid: pid_t, _ directory: URL) {
    lock.withLock {
      if houses.isEmpty { atexit { Cleanup.run() } }
      houses.append((pid, directory))
    }
  }

  private static func run() {
    for house in houses where kill(house.pid, SIGTERM) == 0 {
      // `up` needs a moment to stop PostgreSQL; a zombie still answers to signal 0, so its child status decides.
      for _ in 0..<300 {
        var status: Int32 = 0
        let ended = waitpid(house.pid, &status, WNOHANG)
        if ended != 0 { break }
        usleep(100_000)
      }
      try? FileManager.default.removeItem(at: house.directory)
    }
  }
}
