import Crypto
import Jobs

/// One file of `sql/migrations`, as this binary carries it.
struct Migration: Sendable, Equatable {
  let version: Int
  /// File name without the extension: `0001_roles`.
  let name: String
  let sql: String
  let checksum: Jobs.Digest

  /// Nil unless the name is a number, `_` and a word.
  init?(name: String, sql: String) {
    let parts = name.split(separator: "_", maxSplits: 1)
    guard parts.count == 2, let version = Int(parts[0]), version > 0 else { return nil }
    self.version = version
    self.name = name
    self.sql = sql
    checksum = Jobs.Digest(sha256: SHA256.hash(data: Array(sql.utf8)))
  }

  /// All of them, in order.
  static let carried: [Migration] = {
    let prefix = "migrations/"
    let migrations = EmbeddedSQL.files.filter { $0.key.hasPrefix(prefix) }.map { path, sql in
      guard let migration = Migration(name: String(path.dropFirst(prefix.count)), sql: sql) else {
        preconditionFailure("sql/\(path).sql is no name of a migration: NUMBER_WORD.sql")
      }
      return migration
    }.sorted { $0.version < $1.version }
    precondition(
      migrations.map(\.version) == Array(1...max(1, migrations.count)), "migrations are numbered from 1 without gaps")
    return migrations
  }()
}

/// A row of `cordon.schema_version`.
struct AppliedMigration: Sendable, Equatable {
  let version: Int
  let name: String
  let checksum: String
}

/// Why this binary and a database do not go together.
public enum SchemaError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The database has no schema, or an older one.
  case older(database: Int, binary: Int)
  /// A newer binary migrated the database.
  case newer(database: Int, binary: Int)
  /// A migration that was applied is not the one this binary carries under its number.
  case changed(file: String, applied: String, carried: String)

  public var description: String {
    switch self {
    case .older(0, let binary):
      "the database has no schema cordon, this program needs version \(binary): run `cordon migrate`"
    case .older(let database, let binary):
      "the database has schema version \(database), this program needs \(binary): run `cordon migrate`"
    case .newer(let database, let binary):
      "the database has schema version \(database), this program knows \(binary): update cordon"
    case .changed(let file, let applied, let carried):
      "sql/migrations/\(file).sql is not what was applied to this database (applied \(applied), "
        + "carried \(carried)): use the program that belongs to this database, or restore the file"
    }
  }
}

/// Which migrations are to be applied, decided from what the database says.
enum MigrationPlan {
  /// The pending ones in order; throws when an applied one differs or is unknown.
  static func pending(carried: [Migration], applied: [AppliedMigration]) throws(SchemaError) -> [Migration] {
    let newest = carried.last?.version ?? 0
    if let beyond = applied.map(\.version).max(), beyond > newest {
      throw .newer(database: beyond, binary: newest)
    }
    let known = Dictionary(uniqueKeysWithValues: carried.map { ($0.version, $0) })
    for row in applied {
      guard let migration = known[row.version], migration.name == row.name,
        migration.checksum.description == row.checksum
      else {
        throw .changed(
          file: row.name, applied: row.checksum, carried: known[row.version]?.checksum.description ?? "nothing")
      }
    }
    let done = Set(applied.map(\.version))
    return carried.filter { !done.contains($0.version) }
  }
}
