import Credentials
import Foundation
import Postgres
import PrivateCluster
import TestKit

/// A server with a database of somebody's business, which logs all it can and lets job roles in by password only.
final class PostgresLedger: Sendable {
  let cluster: PrivateCluster
  let adminFile: String
  private let place: Place
  private let watchdog: Watchdog

  /// - Parameter admin: who makes the roles; `postgres`, or a role with CREATEROLE and nothing else.
  init(admin: String) async throws {
    watchdog = try Watchdog.start()
    place = try Place()
    cluster = try await PrivateCluster.start(
      directory: watchdog.directory, durable: false,
      settings: [
        "log_statement=all", "log_min_duration_statement=0", "log_connections=on", "debug_print_parse=on",
        "shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track=all", "max_prepared_transactions=4",
      ])
    try await cluster.createDatabase("ledger")
    adminFile = try place.write(cluster.url(database: "ledger", user: admin), to: "admin")
    try await execute(
      """
      CREATE EXTENSION pg_stat_statements;
      CREATE ROLE ledger_read NOLOGIN; CREATE ROLE ledger_write NOLOGIN; CREATE ROLE strong NOLOGIN CREATEDB;
      CREATE ROLE cordon_admin LOGIN CREATEROLE;
      CREATE TABLE entry (id int); INSERT INTO entry VALUES (1), (2);
      GRANT SELECT ON entry TO ledger_read; GRANT ALL ON SCHEMA public TO ledger_write;
      """)
    // Job roles are members of a group; everybody else is trusted, as a private server does.
    let file = URL(fileURLWithPath: cluster.directory + "/data/pg_hba.conf")
    let rules = try String(contentsOf: file, encoding: .utf8)
    let handle = try FileHandle(forWritingTo: file)
    try handle.write(contentsOf: Data(("local all +ledger_read scram-sha-256\nlocal all all trust\n" + rules).utf8))
    try handle.close()
    try await execute("SELECT pg_reload_conf()")
  }

  func close() async throws {
    try await cluster.stop()
    watchdog.finish()
  }

  func source(groups: [String] = ["ledger_read"], connections: Int = 2) -> PostgresRoleSource {
    PostgresRoleSource(
      PostgresRoleTerms(adminFile: adminFile, groups: groups, connectionLimit: connections, prefix: "cordon_job_"))
  }

  func execute(_ script: String) async throws {
    let connection = try await Connection.connect(ConnectionSettings(cluster.url(database: "ledger")))
    try await connection.execute(script: script)
    await connection.close()
  }

  /// The first column of all rows, as the superuser.
  func ask(_ sql: String) async throws -> [String] {
    let connection = try await Connection.connect(ConnectionSettings(cluster.url(database: "ledger")))
    let rows = try await connection.query(Statement(name: "ask", sql: sql))
    await connection.close()
    return try rows.map { try $0.get(at: 0, as: String.self) }
  }

  var log: String { get throws { try String(contentsOfFile: cluster.directory + "/data/server.log", encoding: .utf8) } }

  /// A real psql, as a job would start it.
  func psql(_ login: UserPassword, _ sql: String, database: String = "ledger") throws -> Psql {
    try Psql(login, sql, host: cluster.socketDirectory, database: database)
  }
}

/// A psql that runs.
final class Psql {
  private let place: Place
  private let child: Child

  init(_ login: UserPassword, _ sql: String, host: String, database: String) throws {
    place = try Place()
    let password = login.password.withBytes { String(decoding: $0, as: UTF8.self) }
    child = try Child(
      "/usr/bin/psql", ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql],
      environment: ["PGHOST": host, "PGUSER": login.user, "PGDATABASE": database, "PGPASSWORD": password],
      stdin: "/dev/null", stdout: place.path + "/out", stderr: place.path + "/err")
  }

  deinit { if child.isRunning { kill(child.processIdentifier, SIGKILL) } }

  /// What it printed, or what it complained of, when it has ended.
  func answer() async throws -> (status: Int32, text: String) {
    try await eventually("psql ended") { !child.isRunning }
    let file = child.terminationStatus == 0 ? "/out" : "/err"
    let text = try String(contentsOfFile: place.path + file, encoding: .utf8)
    return (child.terminationStatus, text.trimmingCharacters(in: .whitespacesAndNewlines))
  }
}
