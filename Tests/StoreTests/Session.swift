import Foundation
import Postgres
import TestKit

/// One session that can leave a transaction open.
struct Session {
  let connection: Connection

  init(_ role: String) async throws {
    connection = try await Connection.connect(Database.current.settings(user: role))
  }

  /// Runs statements separated by semicolons; the first column of the last one.
  @discardableResult func run(_ sql: String) async throws -> [String] {
    var statements = sql.split(separator: ";").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
    let last = statements.removeLast()
    for statement in statements { try await connection.execute(script: statement) }
    if last.hasPrefix("select") {
      let rows = try await connection.query(Statement(name: last, sql: last), [])
      return rows.compactMap { row in (try? row.get(at: 0, as: String?.self)) ?? nil }
    }
    try await connection.execute(script: last)
    return []
  }

  func close() async { await connection.close() }
}
