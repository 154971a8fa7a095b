import Jobs
import Postgres
import PrivateCluster
import Store

/// A database with Cordon's schema, a producer and a worker, as an operator makes one.
struct CordonDatabase: Sendable {
  let server: QueueServer
  let name: String

  static let producer = "bench_producer"
  static let worker = "bench_worker"
  static let tenant = "bench"
  static let queue = "default"
  private static let template = "cordon_template"

  /// The smallest job there is. Nobody runs it.
  static let specification = #"{"runtime": "exec", "argv": ["/usr/bin/true"]}"#

  /// Migrates what every database of Cordon's is a copy of.
  /// - Parameter trial: SQL that a superuser runs after the migrations.
  static func makeTemplate(_ server: QueueServer, trial: String? = nil) async throws {
    try await server.cluster.createDatabase(template)
    let pool = server.pool(template)
    do {
      let store = Store(pool: pool)
      try await store.migrate()
      try await store.ensureLogin(role: producer, groups: ["cordon_producer"])
      try await store.ensureLogin(role: worker, groups: ["cordon_worker"])
      try await store.addPrincipal(role: producer, tenant: tenant)
      try await store.addPrincipal(role: worker, tenant: nil)
    } catch {
      await pool.close()
      throw error
    }
    await pool.close()
    if let trial { try await server.execute(template, trial) }
  }

  func create() async throws {
    // A session that was closed a moment ago may still be seen, and then there is no copy.
    for attempt in 0... {
      do {
        return try await server.cluster.createDatabase(name, template: Self.template)
      } catch let error as PostgresError where error.sqlState == "55006" && attempt < 100 {
        try await Task.sleep(for: .milliseconds(20))
      }
    }
  }

  /// A session of its own for each store, so that clients do not wait for one another's connection.
  func store(_ role: String) -> Store { Store(pool: server.pool(name, user: role)) }

  func register(_ store: Store, slots: Int) async throws -> Int64 {
    try await store.registerWorker(
      name: "bench", host: "localhost", build: "", queues: [Self.queue], slots: slots, leaseSeconds: 60,
      offers: [PolicyTerms.diskOffer])
  }
}
