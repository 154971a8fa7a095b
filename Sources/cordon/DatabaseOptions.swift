import ArgumentParser
import Foundation
import Postgres
import Store

/// Which database a command talks to.
struct DatabaseOptions: ParsableArguments {
  @Option(
    name: .customLong("database"),
    help: ArgumentHelp(
      "PostgreSQL URL or libpq connection string.",
      discussion: "Default: CORDON_DATABASE_URL, else libpq's own settings (PGHOST, PGSERVICE, …)."))
  var url: String?

  var connection: String {
    url ?? ProcessInfo.processInfo.environment["CORDON_DATABASE_URL"] ?? ""
  }

  /// How long a command waits for the database before it says that it is away: long enough for a failover's
  /// reconnect, short enough for a person at a terminal.
  static let patience = Duration.seconds(5)

  /// Runs `body` with a store and closes its connections afterwards.
  /// - Parameter connections: how many may be open at once.
  func withStore<Value: Sendable>(
    connections: Int = 2, _ body: (Store) async throws -> Value
  ) async throws -> Value {
    let pool = Pool(ConnectionSettings(connection), maximum: connections, waitLimit: Self.patience)
    do {
      let value = try await body(Store(pool: pool))
      await pool.close()
      return value
    } catch {
      await pool.close()
      throw error
    }
  }
}

/// Reads a job id from the command line.
func jobID(_ text: String) throws -> JobID {
  guard let id = JobID(text) else {
    throw Failure(.usage, "JOB: '\(text)' is no job id; `cordon jobs` lists them")
  }
  return id
}
