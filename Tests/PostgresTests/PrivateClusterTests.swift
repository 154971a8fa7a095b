import Glibc
import PrivateCluster
import TestKit
import Testing

@testable import Postgres

@Suite struct PrivateClusterTests {
  /// A directory that goes, with the server in it, when `body` is done.
  private func withDirectory(_ body: (String) async throws -> Void) async throws {
    let watchdog = try Watchdog.start()
    defer { watchdog.finish() }
    try await body(watchdog.directory)
  }

  private func databases(_ cluster: PrivateCluster) async throws -> [String] {
    let connection = try await Connection.connect(ConnectionSettings(cluster.url(database: "postgres")))
    let rows = try await connection.query(
      Statement(name: "databases", sql: "SELECT datname FROM pg_database WHERE datname LIKE 'own%' ORDER BY 1"))
    await connection.close()
    return try rows.map { try $0.get("datname") }
  }

  @Test func itIsAdoptedWhileItRunsAndKeepsItsDataOverAStop() async throws {
    try await withDirectory { directory in
      let first = try await PrivateCluster.start(directory: directory, durable: false)
      #expect(!first.wasRunning)
      try await first.createDatabase("own \"odd/name\"")
      try await first.createDatabase("own2", template: "own \"odd/name\"")
      let second = try await PrivateCluster.start(directory: directory, durable: false)
      #expect(second.wasRunning)
      #expect(second.socketDirectory == first.socketDirectory)
      try await second.stop()
      #expect(try await databases(first) == ["own \"odd/name\"", "own2"])
      let odd = try await Connection.connect(ConnectionSettings(first.url(database: "own \"odd/name\"")))
      await odd.close()
      try await first.dropDatabase("own2")
      try await first.stop()
      let gone = try await failure { _ = try await databases(first) }
      #expect(gone.isConnectionLoss)
      let third = try await PrivateCluster.start(directory: directory)
      #expect(!third.wasRunning)
      #expect(try await databases(third) == ["own \"odd/name\""])
      try await third.stop()
    }
  }

  @Test func aDeepDirectoryGetsAShortSocket() async throws {
    try await withDirectory { directory in
      let deep = directory + "/" + Array(repeating: String(repeating: "d", count: 60), count: 3).joined(separator: "/")
      let cluster = try await PrivateCluster.start(directory: deep, durable: false)
      #expect(cluster.socketDirectory.utf8.count < 100)
      var status = stat()
      #expect(stat(cluster.socketDirectory, &status) == 0 && status.st_mode & 0o777 == 0o700)
      try await cluster.stop()
      #expect(access(cluster.socketDirectory, F_OK) != 0)
    }
  }

  @Test func aDirectoryTheServerCannotReachIsNamed() async throws {
    try await withDirectory { directory in
      let closed = directory + "/closed"
      // Closed to the server's user, which is another one only where we are root.
      let mode: mode_t = geteuid() == 0 ? 0o700 : 0
      #expect(mkdir(closed, mode) == 0)
      let error = await #expect(throws: ClusterError.self) {
        try await PrivateCluster.start(directory: closed + "/cluster", durable: false)
      }
      #expect(error?.description.contains(closed) == true)
      if geteuid() == 0 { #expect(error?.description.contains("cannot enter \(closed) (mode 700)") == true) }
      #expect(error?.description.contains("\n") == false)
    }
  }

  @Test(.migrated) func aMigratedDatabaseHasTheSchema() async throws {
    let connection = try await Database.current.connect(user: Database.current.makeRole(in: ["cordon_worker"]))
    let schema = Statement(name: "schema", sql: "SELECT count(*)::int AS n FROM pg_namespace WHERE nspname = 'cordon'")
    #expect(try await connection.query(schema)[0].get("n") == 1)
  }
}
