import ArgumentParser
import Foundation
import Postgres
import PrivateCluster
import Store

struct Up: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a private PostgreSQL, the schema and a worker in the foreground.",
    discussion: """
      For trying Cordon out and for a single machine. Everything lies beneath DIR; PostgreSQL listens on a Unix
      socket there and nowhere else, and does not run as root. Prints one line, CORDON_DATABASE_URL=…, on stdout when
      the database is ready; everything else goes to stderr. Ctrl-C drains, then stops what it started.
      """)

  /// Names of what `up` makes in its own cluster.
  private enum Name {
    static let database = "cordon"
    static let superuser = "postgres"
    static let client = "cordon_local"
    static let worker = "cordon_local_worker"
    static let tenant = "local"
  }

  @Option(help: "Directory for the database, the worker's state and the artifacts.")
  var data: String?
  @OptionGroup var options: WorkerOptions

  func run() async throws {
    let signals = Signals()
    let data = Installation.absolute(data ?? Installation.defaultData)
    try Installation.makeDirectory(data)
    Terminal.errorLine("cordon: starting PostgreSQL in \(data)/postgres")
    let cluster = try await PrivateCluster.start(directory: data + "/postgres")
    do {
      try await prepare(cluster)
      Terminal.line("CORDON_DATABASE_URL=" + cluster.url(database: Name.database, user: Name.client))
      try await options.serve(
        connection: cluster.url(database: Name.database, user: Name.worker), state: data + "/worker",
        artifacts: data + "/artifacts", signals: signals)
    } catch {
      try? await stop(cluster)
      throw error
    }
    try await stop(cluster)
  }

  private func prepare(_ cluster: PrivateCluster) async throws {
    try await makeDatabase(cluster)
    let pool = Pool(ConnectionSettings(cluster.url(database: Name.database, user: Name.superuser)), maximum: 1)
    let store = Store(pool: pool)
    do {
      _ = try await store.migrate { Terminal.errorLine("cordon: \($0)") }
      try await store.ensureLogin(
        role: Name.client, groups: ["cordon_producer", "cordon_operator", "cordon_auditor"])
      try await store.ensureLogin(role: Name.worker, groups: ["cordon_worker"])
      try await store.addPrincipal(role: Name.client, tenant: Name.tenant)
      try await store.addPrincipal(role: Name.worker, tenant: nil)
    } catch {
      await pool.close()
      throw error
    }
    await pool.close()
  }

  private func makeDatabase(_ cluster: PrivateCluster) async throws {
    do {
      try await cluster.createDatabase(Name.database)
    } catch let error as PostgresError where error.sqlState == "42P04" {
      // duplicate_database: a second `up` on the same directory.
    }
  }

  private func stop(_ cluster: PrivateCluster) async throws {
    guard !cluster.wasRunning else { return }
    Terminal.errorLine("cordon: stopping PostgreSQL")
    try await cluster.stop()
  }
}
