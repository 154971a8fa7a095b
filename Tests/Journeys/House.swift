import Foundation
import Jobs
import TestKit

/// A directory with its own `cordon up`: PostgreSQL, schema and worker, through the real binary.
actor House {
  nonisolated let directory: URL
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

  /// The cluster's superuser, and the role its worker has.
  nonisolated var superuser: String { tool.url.replacing("user=cordon_local", with: "user=postgres") }
  nonisolated var worker: String { tool.url.replacing("user=cordon_local", with: "user=cordon_local_worker") }

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

extension House {
  /// A second `up` found PostgreSQL running and so leaves it; here it is stopped by the pid in its own file.
  nonisolated func stopPostgres() throws {
    let cluster = directory.appending(path: "postgres")
    for case let url as URL in FileManager.default.enumerator(at: cluster, includingPropertiesForKeys: nil) ?? .init()
    where url.lastPathComponent == "postmaster.pid" {
      let first = try String(contentsOf: url, encoding: .utf8).split(separator: "\n").first
      guard let pid = first.flatMap({ pid_t($0) }) else { continue }
      kill(pid, SIGINT)
      while kill(pid, 0) == 0 { usleep(50_000) }
    }
  }
}

/// A `sleep` that is told from every other process of the host by its argument.
struct Marker {
  let text = "86399.\(UInt32.random(in: 100_000...999_999))"

  /// Whether it is alive, as the host sees it.
  var exists: Bool {
    let ids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.filter { Int($0) != nil } ?? []
    return ids.contains { id in
      guard let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") else { return false }
      let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      return words.first?.hasSuffix("sleep") == true && words.contains(text)
    }
  }
}

/// Waits until `condition` holds; a `Problem` that names it when it does not within `limit`.
func eventually(_ what: String, limit: Duration = .seconds(10), _ condition: () -> Bool) async throws {
  let end = ContinuousClock.now + limit
  while !condition() {
    guard ContinuousClock.now < end else { throw Problem("not within \(limit): \(what)") }
    try await Task.sleep(for: .milliseconds(50))
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
