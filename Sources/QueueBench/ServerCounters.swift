import Postgres

/// What the server counts beside the clock.
struct ServerCounters: Sendable {
  /// Bytes of write-ahead log since the server was made.
  var wal: Int64
  /// Row versions that died: updated or deleted.
  var died: Int64
  /// Of those, the ones that no vacuum has removed yet.
  var dead: Int64

  /// To be read when the contender's sessions have ended: a session reports its counts at its end at the latest, and
  /// then the statistics have them.
  static func read(_ server: QueueServer, _ database: String) async throws -> ServerCounters {
    try await server.asSuperuser(database) { connection in
      let statement = Statement(name: "counters", sql: BenchSQL.text("counters"))
      guard let row = try connection.query(statement).first else { throw PostgresError(.decoding, "no counters") }
      return ServerCounters(wal: try row.get("wal"), died: try row.get("died"), dead: try row.get("dead"))
    }
  }
}

/// The files of `Sources/QueueBench/sql`.
enum BenchSQL {
  static func text(_ name: String) -> String {
    guard let text = EmbeddedSQL.files[name] else { preconditionFailure("sql/\(name).sql was not embedded") }
    return text
  }
}
