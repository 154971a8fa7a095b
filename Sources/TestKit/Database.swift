import Postgres
import PrivateCluster

/// The database of one test, on a server that all tests of the process share. Roles belong to the server, so a
/// test makes its own with `makeRole`.
public struct Database: Sendable {
  @TaskLocal static var value: Database?

  /// The database of the running test. The test or its suite must carry the trait `.database` or `.migrated`.
  public static var current: Database {
    guard let value else { preconditionFailure("this test has no database: give it .database or .migrated") }
    return value
  }

  public let cluster: PrivateCluster
  public let name: String

  /// A connection string for a user of this database; the superuser where none is named.
  public func url(user: String = PrivateCluster.superuser) -> String {
    cluster.url(database: name, user: user)
  }

  public func settings(user: String = PrivateCluster.superuser) -> ConnectionSettings {
    ConnectionSettings(url(user: user))
  }

  public func connect(user: String = PrivateCluster.superuser) async throws -> Connection {
    try await Connection.connect(settings(user: user))
  }

  public func pool(user: String = PrivateCluster.superuser, maximum: Int = 4) -> Pool {
    Pool(settings(user: user), maximum: maximum)
  }

  /// Runs SQL text as the superuser.
  public func execute(_ script: String) async throws {
    let connection = try await connect()
    do {
      try await connection.execute(script: script)
    } catch {
      await connection.close()
      throw error
    }
    await connection.close()
  }

  /// Makes a login role that is a member of the groups; its name is unique on the server.
  public func makeRole(in groups: [String] = []) async throws -> String {
    let name = "test_role_\(await TestCluster.shared.number())"
    let connection = try await connect()
    try await connection.execute(script: "CREATE ROLE \(name) LOGIN")
    for group in groups {
      try await connection.execute(script: "GRANT \(try await connection.quote(identifier: group)) TO \(name)")
    }
    await connection.close()
    return name
  }
}
