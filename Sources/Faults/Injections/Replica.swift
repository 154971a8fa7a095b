import FaultHistory
import Foundation
import Postgres
import PrivateCluster

// Theory of operation
//
// Two clusters: a primary, and a replica that it waits for before it acknowledges a commit. A promotion ends the primary
// without a word, lets the replica take over, and makes a new replica where the old primary was, by a base backup: it
// never serves again with what it had, so there are not two primaries. Clients name both and follow by
// `target_session_attrs=read-write`.
//
// A primary whose replica is away would wait for it without end; so it is told to wait only while there is one, and a
// promotion is made only of a replica that it waits for.

extension Fleet {
  /// - Parameter silently: to the workers the primary that ends, and whoever asks for it after, is a host that was
  ///   switched off, until there is a replica again: it refuses nothing, it says nothing.
  func promoteReplica(silently: Bool) async throws {
    try await server.take {
      try? await startServer()
      guard let next = replica, (try? await waitForReplica()) != nil else { return }
      let last = primary
      guard silently, let side = proxies[0].first(where: { $0.leads(to: last.socketDirectory) }) else {
        return await replace(last, by: next)
      }
      try await network.drop(1_000, .promoteReplica, of: Array(workers.indices), port: side.address.port) {
        await replace(last, by: next)
      }
    }
  }

  private func replace(_ last: PrivateCluster, by next: PrivateCluster) async {
    do {
      try await last.crash()
      try await next.promote()
      change {
        $0 = Pair(primary: next, replica: nil, promotions: $0.promotions + 1)
      }
      try await ask("ALTER SYSTEM SET synchronous_standby_names = ''")
      try await ask("SELECT pg_reload_conf()")
      let replica = try await next.makeReplica(directory: last.directory, settings: Self.settings)
      change { $0.replica = replica }
      try await waitForReplica()
    } catch {
      note("promotion: \(error)")
      // Without a replica there is nobody to wait for.
      _ = try? await ask("ALTER SYSTEM SET synchronous_standby_names = ''")
      _ = try? await ask("SELECT pg_reload_conf()")
    }
  }

  /// Returns once the primary waits for its replica with every commit.
  func waitForReplica() async throws {
    try await ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
    try await ask("SELECT pg_reload_conf()")
    let end = ContinuousClock.now + .seconds(20)
    while .now < end {
      let rows = try await ask("SELECT count(*) AS replicas FROM pg_stat_replication WHERE sync_state = 'sync'")
      if try rows.first?.get("replicas", as: Int.self) == 1 { return }
      try await Task.sleep(for: .milliseconds(100))
    }
    throw FaultError("the replica does not follow")
  }

  private func note(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
  }
}
