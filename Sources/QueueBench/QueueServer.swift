import BenchReport
import Foundation
import Postgres
import PrivateCluster

// Theory of operation
//
// One PostgreSQL for all contenders, each in a database of its own, so that nobody reads another's dead rows. It is
// made for the run with the server's own defaults, durability among them, beneath /var/tmp, because /tmp may be memory,
// on which a flush costs nothing; the watchdog removes it however this process ends.

/// The PostgreSQL that everything is measured on.
struct QueueServer: Sendable {
  let cluster: PrivateCluster
  private let watchdog: Watchdog

  private static let parent = "/var/tmp"
  private static let memoryFilesystems: Set = ["tmpfs", "ramfs"]
  /// What makes an acknowledged commit a durable one; the bench refuses a server that has another value.
  private static let durability = ["fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"]

  static func start() async throws -> QueueServer {
    if Self.memoryFilesystems.contains(try filesystem(of: parent)) {
      throw BenchError("\(parent) is memory; a durable commit costs nothing there")
    }
    let watchdog = try Watchdog.start(beneath: parent)
    do {
      let cluster = try await PrivateCluster.start(directory: watchdog.directory + "/postgres", durable: true)
      let server = QueueServer(cluster: cluster, watchdog: watchdog)
      try await server.requireDurability()
      return server
    } catch {
      watchdog.finish()
      throw error
    }
  }

  /// Ends the server and removes everything it wrote.
  func remove() { watchdog.finish() }

  func url(_ database: String, user: String = PrivateCluster.superuser) -> String {
    cluster.url(database: database, user: user)
  }

  func pool(_ database: String, user: String = PrivateCluster.superuser, maximum: Int = 1) -> Pool {
    Pool(ConnectionSettings(url(database, user: user), applicationName: "cordon bench"), maximum: maximum)
  }

  /// Runs `body` on a superuser's session that ends with it.
  func asSuperuser<Value: Sendable>(
    _ database: String, _ body: @Sendable (isolated Connection) throws -> Value
  ) async throws -> Value {
    let connection = try await Connection.connect(ConnectionSettings(url(database), applicationName: "cordon bench"))
    do {
      let value = try await body(connection)
      await connection.close()
      return value
    } catch {
      await connection.close()
      throw error
    }
  }

  func execute(_ database: String, _ script: String) async throws {
    try await asSuperuser(database) { try $0.execute(script: script) }
  }

  /// What a commit of one row costs here, in microseconds: the median says what disk the figures are of.
  func commitLatency() async throws -> Double? {
    let samples = 50
    return try await asSuperuser("postgres") { connection in
      try connection.execute(script: "CREATE TABLE commit_latency (row int)")
      let insert = Statement(name: "commit_latency", sql: "INSERT INTO commit_latency VALUES ($1::int)")
      return try (0..<samples).map { row in
        let begin = microseconds()
        try connection.query(insert, [Parameter(row)])
        return microseconds() - begin
      }.median
    }
  }

  /// The type of the filesystem that is mounted nearest above a directory.
  private static func filesystem(of path: String) throws -> String {
    let mounts = try String(contentsOfFile: "/proc/self/mounts", encoding: .utf8).split(separator: "\n")
      .map { $0.split(separator: " ") }.filter { $0.count > 2 }
    // The last of a place is the one that is seen.
    let above = mounts.enumerated().filter { path == $1[1] || path.hasPrefix($1[1] == "/" ? "/" : $1[1] + "/") }
    guard let nearest = above.max(by: { ($0.element[1].count, $0.offset) < ($1.element[1].count, $1.offset) }) else {
      throw BenchError("/proc/self/mounts does not say what \(path) is on")
    }
    return String(nearest.element[2])
  }

  private func requireDurability() async throws {
    let found = try await asSuperuser("postgres") { connection in
      try Self.durability.keys.map { name in
        let rows = try connection.query(Statement(name: "show \(name)", sql: "SHOW \(name)"))
        return (name, try rows.first?.get(at: 0, as: String.self))
      }
    }
    for (name, value) in found where value != Self.durability[name] {
      throw BenchError("the server has \(name) = \(value ?? "?"); only durable commits are measured")
    }
  }
}
