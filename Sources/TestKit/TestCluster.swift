import Glibc
import Postgres
import PrivateCluster
import Store

/// The server that the tests of this process share: started on first use, gone with the process however it ends.
actor TestCluster {
  static let shared = TestCluster()

  private static let template = "cordon_template"
  /// Started once; what the exit handler finishes.
  private static let watchdog = Result {
    let watchdog = try Watchdog.start()
    atexit { TestCluster.finish() }
    return watchdog
  }

  private var started: Task<PrivateCluster, any Error>?
  private var migrated: Task<Void, any Error>?
  private var count = 0

  /// A new database of a name nobody used.
  func makeDatabase(migrated: Bool) async throws -> Database {
    let cluster = try await cluster()
    if migrated { try await requireTemplate(cluster) }
    let name = "test_\(number())"
    try await cluster.createDatabase(name, template: migrated ? Self.template : nil)
    return Database(cluster: cluster, name: name)
  }

  /// Unique in this process, and so on its server.
  func number() -> Int {
    count += 1
    return count
  }

  private func cluster() async throws -> PrivateCluster {
    if let started { return try await started.value }
    let task = Task {
      try await PrivateCluster.start(directory: try Self.watchdog.get().directory, durable: false)
    }
    started = task
    return try await task.value
  }

  /// Migrates once; every migrated database is a copy, which takes a fraction of the time.
  private func requireTemplate(_ cluster: PrivateCluster) async throws {
    if let migrated { return try await migrated.value }
    let task = Task {
      try await cluster.createDatabase(Self.template)
      let pool = Pool(ConnectionSettings(cluster.url(database: Self.template)), maximum: 1)
      _ = try await Store(pool: pool).migrate(report: { _ in })
      await pool.close()
      try await Self.awaitNoSessions(in: Self.template, cluster)
    }
    migrated = task
    try await task.value
  }

  /// CREATE DATABASE refuses a template that still has sessions, and one that was closed lingers for a moment.
  private static func awaitNoSessions(in database: String, _ cluster: PrivateCluster) async throws {
    let sessions = Statement(
      name: "sessions", sql: "SELECT count(*) AS sessions FROM pg_stat_activity WHERE datname = $1")
    let connection = try await Connection.connect(ConnectionSettings(cluster.url(database: "postgres")))
    while try await connection.query(sessions, [Parameter(database)]).first?.get("sessions", as: Int.self) != 0 {
      try await Task.sleep(for: .milliseconds(5))
    }
    await connection.close()
  }

  private static func finish() {
    if case .success(let watchdog) = watchdog { watchdog.finish() }
  }
}
