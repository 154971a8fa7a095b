import Jobs
import Postgres

// Theory of operation
//
// Everything durable is decided inside PostgreSQL, by the functions of schema `cordon`; this target carries their
// source (`sql/`), calls them by name and turns rows into values. It holds no state but the pool, so any number of
// copies may be used from any task, and a call that was cut off by a lost connection can be made again: enqueue with a
// key, start, complete, append and release say the same the second time.

/// Cordon's database.
public struct Store: Sendable {
  let pool: Pool

  public init(pool: Pool) { self.pool = pool }

  /// The newest migration this program carries.
  public static var schemaVersion: Int { Migration.carried.last?.version ?? 0 }

  /// The newest migration the database has; 0 when it has no schema `cordon`.
  public func databaseVersion() async throws -> Int {
    guard try await one(.schemaPresent).get("present", as: Bool.self) else { return 0 }
    return try await one(.schemaVersion).get("version")
  }

  /// Throws a `SchemaError` unless database and program are of one version.
  public func requireCurrentSchema() async throws {
    let version = try await databaseVersion()
    if version < Self.schemaVersion { throw SchemaError.older(database: version, binary: Self.schemaVersion) }
    if version > Self.schemaVersion { throw SchemaError.newer(database: version, binary: Self.schemaVersion) }
  }

  /// Brings the schema to this program's version: all pending migrations or none, under a lock that lets one program
  /// migrate a database at a time.
  ///
  /// The role must be a superuser, or have CREATEROLE and CREATE on the database.
  /// - Parameter report: called with one line for each migration; what it tells is true once `migrate` returns.
  /// - Returns: the versions before and after.
  /// - Throws: `SchemaError` when an applied migration differs from the carried one or the database is newer.
  @discardableResult
  public func migrate(
    report: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws -> (from: Int, to: Int) {
    try await migrate(Migration.carried, report: report)
  }

  func migrate(
    _ carried: [Migration], report: @escaping @Sendable (String) -> Void
  ) async throws -> (from: Int, to: Int) {
    let versions = try await pool.transaction { connection -> [Int] in
      try connection.query(Query.migrationsLock.statement)
      let present = try connection.query(Query.schemaPresent.statement).first?.get("present", as: Bool.self) ?? false
      let applied =
        present
        ? try connection.query(Query.migrationsApplied.statement).map {
          AppliedMigration(version: try $0.get("version"), name: try $0.get("name"), checksum: try $0.get("checksum"))
        } : []
      let from = applied.map(\.version).max() ?? 0
      for migration in try MigrationPlan.pending(carried: carried, applied: applied) {
        report("applying \(migration.name)")
        try connection.execute(script: migration.sql)
        try connection.query(
          Query.migrationsRecord.statement,
          [Parameter(migration.version), Parameter(migration.name), Parameter(migration.checksum.description)])
        try connection.execute(script: Query.migrationsEndRole.sql)
      }
      return [from, carried.last?.version ?? 0]
    }
    return (versions[0], versions[1])
  }

  /// Rows of a statement.
  func all(_ query: Query, _ parameters: [Parameter] = []) async throws -> [Row] {
    try await pool.query(query.statement, parameters)
  }

  /// The only row of a statement that has exactly one.
  func one(_ query: Query, _ parameters: [Parameter] = []) async throws -> Row {
    let rows = try await all(query, parameters)
    guard rows.count == 1 else {
      throw PostgresError(.decoding, "\(rows.count) rows where one was due", statement: query.rawValue)
    }
    return rows[0]
  }

  /// A column that holds a job's id.
  static func jobID(_ row: Row, _ column: String = "job") throws -> JobID {
    let text = try row.get(column, as: String.self)
    guard let job = JobID(text) else { throw PostgresError(.decoding, "column \"\(column)\": \(text) is no job id") }
    return job
  }
}
