import Foundation
import Jobs

/// A directory with its own `cordon up`: PostgreSQL, schema and worker, through the real binary.
public actor House {
  public nonisolated let directory: URL
  public let up: RunningTool
  public nonisolated let tool: Tool

  /// One house that the tests of a process share which only enqueue and look.
  public static let shared = Task { try await House(slots: 4) }

  /// - Parameters:
  ///   - environment: what `cordon up` finds beside this process's own environment.
  ///   - through: a command that executes `cordon up`, such as `setpriv`.
  public init(
    slots: Int, options: [String] = [], environment: [String: String] = [:], through: [String] = []
  ) async throws {
    // PostgreSQL runs as its own user and must be able to reach its directory.
    directory = URL(fileURLWithPath: "/var/tmp/cordon-house-\(UUID().uuidString)")
    try FileManager.default.createDirectory(
      at: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    up = try RunningTool(
      ["up", "--data", directory.path, "--slots", String(slots)] + options,
      environment: ProcessInfo.processInfo.environment.merging(environment) { _, given in given }, through: through)
    tool = Tool(url: try await Self.url(printedBy: up))
    Cleanup.register(up.process.processIdentifier, directory)
  }

  /// The cluster's superuser, and the role its worker has.
  public nonisolated var superuser: String { tool.url.replacing("user=cordon_local", with: "user=postgres") }
  public nonisolated var worker: String { tool.url.replacing("user=cordon_local", with: "user=cordon_local_worker") }

  /// Waits for the one line `up` prints.
  public static func url(printedBy up: RunningTool) async throws -> String {
    let end = ContinuousClock.now + Duration.seconds(60).patiently
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
  public func close() async throws {
    up.signal(SIGTERM)
    _ = try await up.answer(limit: .seconds(60))
    try FileManager.default.removeItem(at: directory)
  }
}

extension House {
  /// A second `up` found PostgreSQL running and so leaves it; here it is stopped by the pid in its own file.
  public nonisolated func stopPostgres() throws {
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
