import Postgres

/// Another session that is in the way for as long as it is held: as long as it is, no row version that dies may go.
enum Obstacle: CaseIterable, Sendable {
  case none
  /// A reader whose snapshot is from before the jobs were enqueued, as a long report or a dump has.
  case oldSnapshot
  /// A producer that has enqueued a job and does not commit.
  case openWrite

  var scenario: QueueRow.Scenario {
    switch self {
    case .none: .undisturbed
    case .oldSnapshot: .snapshot
    case .openWrite: .openWrite
    }
  }

  func held<Value>(in home: CordonDatabase, _ body: () async throws -> Value) async throws -> Value {
    let script =
      switch self {
      case .none: ""
      case .oldSnapshot: "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class"
      case .openWrite:
        "BEGIN; SELECT cordon.enqueue('\(CordonDatabase.queue)', '\(CordonDatabase.specification)')"
      }
    let user = self == .openWrite ? CordonDatabase.producer : "postgres"
    let session = try await Connection.connect(ConnectionSettings(home.server.url(home.name, user: user)))
    do {
      try await session.execute(script: script)
      let value = try await body()
      // Closing would end it too, but at a time of the server's choosing.
      if self != .none { try await session.execute(script: "ROLLBACK") }
      await session.close()
      return value
    } catch {
      await session.close()
      throw error
    }
  }
}
