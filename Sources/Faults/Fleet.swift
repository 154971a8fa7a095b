import FaultHistory
import Foundation
import Postgres
import PrivateCluster
import Store
import Synchronization

// Theory of operation
//
// A fleet is a private PostgreSQL with durability on, a proxy for each client, workers that run the real `cordon worker`
// with real cells, and producers. Everything lies in one directory:
//
//   postgres/    the cluster, where the run fills a disk on a filesystem of its own (`disk.img`, loop-mounted here)
//   proxy/N/     the socket that worker N knows as its database; proxy/p is the producers'
//   worker-N/    the state of worker N, kept from one of its processes to the next; worker-N.log is what they say
//   artifacts/   the approved directory of all of them
//   told         what the producers were told
//
// Faults are injected by this process: into workers by signals, into PostgreSQL by pg_ctl and sessions of its own, into
// the network by the proxies. Each runs as a task of its own and may overlap any other; only what stops the server
// takes turns, because two of them would only get in each other's way. When the script is over everything is made well
// again, and the fleet has to finish what it owes before anything is judged.

/// A PostgreSQL, its workers and its producers.
final class Fleet: Sendable {
  static let lease = Duration.seconds(2)
  static let database = "cordon"
  static let workerRole = "faults_worker"
  static let producerRole = "faults_producer"

  let directory: String
  /// The directory of the built executables.
  let products: String
  let workers: [WorkerSlot]
  /// Of worker N the Nth; the last one is the producers'.
  let proxies: [Proxy]
  let producers: Pool
  let superuser: ConnectionSettings
  let ledger: Ledger
  let server = Turn()
  let disk: Disk?
  private let supervisors: Mutex<[Task<Void, Never>]> = Mutex([])

  var clusterDirectory: String { directory + "/postgres" }
  var artifacts: String { directory + "/artifacts" }
  var log: String { directory + "/faults.log" }

  /// Starts the database; nobody serves yet.
  static func start(directory: String, products: String, workers: Int, fillsDisk: Bool) async throws -> Fleet {
    let disk = fillsDisk ? try await Disk.mount(at: directory + "/postgres", log: directory + "/faults.log") : nil
    do {
      let cluster = try await PrivateCluster.start(directory: directory + "/postgres", settings: Disk.settings)
      try await cluster.createDatabase(database)
      return try await Fleet(
        directory: directory, products: products, workers: workers, cluster: cluster, disk: disk)
    } catch {
      try? await PrivateCluster.start(directory: directory + "/postgres").crash()
      await disk?.unmount()
      throw error
    }
  }

  private init(
    directory: String, products: String, workers: Int, cluster: PrivateCluster, disk: Disk?
  ) async throws {
    self.directory = directory
    self.products = products
    self.disk = disk
    superuser = ConnectionSettings(cluster.url(database: Self.database), applicationName: "faults")
    ledger = try Ledger(path: directory + "/told")

    let pool = Pool(superuser, maximum: 1)
    let store = Store(pool: pool)
    try await store.migrate()
    try await store.ensureLogin(role: Self.producerRole, groups: ["cordon_producer"])
    try await store.ensureLogin(role: Self.workerRole, groups: ["cordon_worker"])
    try await store.addPrincipal(role: Self.producerRole, tenant: "faults")
    try await store.addPrincipal(role: Self.workerRole, tenant: nil)
    await pool.close()

    let names = (0..<workers).map(String.init) + ["p"]
    proxies = try names.map {
      try Proxy(directory: "\(directory)/proxy/\($0)", upstream: cluster.socketDirectory)
    }
    let proxies = proxies
    func url(_ proxy: Proxy, _ role: String) -> String {
      "host=\(proxy.directory) port=5432 dbname=\(Self.database) user=\(role)"
    }
    producers = Pool(
      ConnectionSettings(
        url(proxies[workers], Self.producerRole), applicationName: "producer", connectTimeout: .seconds(2),
        statementTimeout: .seconds(2), cancelGrace: .seconds(1)), maximum: 4, waitLimit: .seconds(2))
    self.workers = (0..<workers).map { number in
      WorkerSlot(
        number: number, executable: products + "/cordon",
        arguments: [
          "worker", "--database", url(proxies[number], Self.workerRole), "--data", "\(directory)/worker-\(number)",
          "--artifacts", directory + "/artifacts", "--slots", "3", "--lease", "2s", "--name", "worker-\(number)",
          "--drain-timeout", "10s",
        ], log: "\(directory)/worker-\(number).log")
    }
  }

  /// Starts the workers and sees to it that they run.
  func serve() {
    supervisors.withLock { tasks in tasks = workers.map { worker in Task { await worker.supervise() } } }
  }

  /// Runs one statement as the superuser, past every proxy.
  @discardableResult
  func ask(_ sql: String) async throws -> [Row] {
    let connection = try await Connection.connect(superuser)
    do {
      let rows = try await connection.query(Statement(name: "faults", sql: sql), [], deadline: .seconds(20))
      await connection.close()
      return rows
    } catch {
      await connection.close()
      throw error
    }
  }

  /// Starts the server where it is down.
  func startServer() async throws {
    // The start of a server that has to recover may take longer than its first caller waits.
    for attempt in 1... {
      do {
        _ = try await PrivateCluster.start(directory: clusterDirectory, settings: Disk.settings)
        return
      } catch {
        guard attempt < 20 else { throw error }
        try await Task.sleep(for: .milliseconds(200))
      }
    }
  }

  /// Asks the workers to leave. Returns what each ended with; nil for one that had to be killed.
  func closeWorkers() async -> [Int32?] {
    let ends = await withTaskGroup(of: (Int, Int32?).self) { group in
      for (number, worker) in workers.enumerated() {
        group.addTask { (number, await worker.close(within: .seconds(40))) }
      }
      var ends = [Int32?](repeating: nil, count: workers.count)
      for await (number, end) in group { ends[number] = end }
      return ends
    }
    for task in supervisors.withLock({ $0 }) { await task.value }
    return ends
  }

  /// Ends whatever is left. Harmless twice.
  func close() async {
    _ = await closeWorkers()
    await producers.close()
    for proxy in proxies { proxy.close() }
    try? await PrivateCluster.start(directory: clusterDirectory, settings: Disk.settings).crash()
    await disk?.unmount()
  }
}

/// One after the other, in the order of asking.
actor Turn {
  private var isTaken = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  func take<Value: Sendable>(_ body: @Sendable () async throws -> Value) async rethrows -> Value {
    if isTaken {
      await withCheckedContinuation { waiting.append($0) }
    }
    isTaken = true
    defer {
      if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() }
    }
    return try await body()
  }
}
