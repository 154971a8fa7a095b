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

  /// The text of a file of `sql/statements`, for a program that measures what it costs without this one.
  public static func sql(statement name: String) -> String {
    guard let query = Query(rawValue: name) else { preconditionFailure("there is no sql/statements/\(name).sql") }
    return query.sql
  }

  /// Closes the connections; calls made later throw.
  public func close() async { await pool.close() }

  /// The newest migration the database has; 0 when it has no schema `cordon`.
  public func databaseVersion() async throws -> Int {
    // By the pool itself: `all` asks for this version when a statement fails.
    let present = try await pool.query(Query.schemaPresent.statement).first?.get("present", as: Bool.self)
    guard present == true else { return 0 }
    return try await pool.query(Query.schemaVersion.statement).first?.get("version") ?? 0
  }

  /// Why database and program do not go together; nil when they do.
  private func schemaError() async throws -> SchemaError? {
    let version = try await databaseVersion()
    if version < Self.schemaVersion { return .older(database: version, binary: Self.schemaVersion) }
    if version > Self.schemaVersion { return .newer(database: version, binary: Self.schemaVersion) }
    return nil
  }

  /// Throws a `SchemaError` unless database and program are of one version.
  public func requireCurrentSchema() async throws {
    if let error = try await schemaError() { throw error }
  }

  /// Brings the schema to this program's version: all pending migrations or none, under a lock that lets one program
  /// migrate a database at a time.
  ///
  /// The role must be a superuser, or have CREATEROLE and CREATE on the database.
  /// - Parameter report: called with one line for each migration; what it tells is true once `migrate` returns.
  /// - Returns: the versions before and after.
  /// - Throws: `SchemaError` when an applied migration differs from the carried one or the database is newer; a
  ///   `PostgresError` of SQLSTATE 42501 whose hint says which role is needed.
  @discardableResult
  public func migrate(
    report: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws -> (from: Int, to: Int) {
    do {
      return try await migrate(Migration.carried, report: report)
    } catch var error as PostgresError where error.sqlState == Self.insufficientPrivilege {
      error.message = "this role cannot migrate the database: \(error.message)"
      error.hint =
        "use a superuser, or a role with CREATEROLE and CREATE on the database; once it has the schema, a member of "
        + "cordon_owner"
      throw error
    }
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
      // Not a migration: what this login may not, another one's `migrate` may.
      try connection.execute(script: Query.enrolmentOwner.sql)
      return [from, carried.last?.version ?? 0]
    }
    return (versions[0], versions[1])
  }

  /// Rows of a statement. One that the database does not know, because it has no schema or another version's, fails
  /// with a `SchemaError`.
  @discardableResult
  func all(_ query: Query, _ parameters: [Parameter] = []) async throws -> [Row] {
    do {
      return try await pool.query(query.statement, parameters)
    } catch let error as PostgresError where error.sqlState.map(Self.unknownNames.contains) ?? false {
      // The words of the message depend on the server's language, so the database is asked what it has.
      if let schemaError = try? await schemaError() { throw schemaError }
      throw error
    }
  }

  /// invalid_schema_name, undefined_function and undefined_table.
  private static let unknownNames: Set = ["3F000", "42883", "42P01"]

  private static let insufficientPrivilege = "42501"

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
