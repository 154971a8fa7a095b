import Postgres
import PrivateCluster

extension Fleet {
  /// The server is gone without a word, for a while; the next one recovers from its log.
  func crashDatabase(for length: Duration) async {
    await server.take {
      try? await primary.crash()
      try? await Task.sleep(for: length)
      try? await startServer()
    }
  }

  func terminateBackends() async {
    let roles = "'\(Self.workerRole)', '\(Self.producerRole)'"
    _ = try? await ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN (\(roles))")
  }

  /// Whoever wants to claim, start, complete or rescue waits, and gives up waiting.
  func lockLeases(for length: Duration) async {
    guard let holder = try? await Connection.connect(superuser) else { return }
    try? await holder.execute(script: "BEGIN; LOCK TABLE cordon.lease", deadline: .seconds(5))
    try? await Task.sleep(for: length)
    await holder.close()
  }

  /// Takes connections as somebody who is no superuser, until the server has no more for anybody else either.
  func exhaustConnections(for length: Duration) async {
    let settings = ConnectionSettings(
      superuser.connectionString.replacing("user=postgres", with: "user=\(Self.producerRole)"),
      applicationName: "hog", connectTimeout: .seconds(2))
    var taken: [Connection] = []
    while let connection = try? await Connection.connect(settings) { taken.append(connection) }
    try? await Task.sleep(for: length)
    for connection in taken { await connection.close() }
  }
}
