import FaultHistory
import Foundation
import Postgres
import PrivateCluster
import Store
import Synchronization

// Theory of operation
//
// A fleet is a private PostgreSQL with durability on, a proxy for each client, workers that run the real `cordon worker`
// with real cells, and producers. Each worker's processes are in a network namespace of their own, with a link to one
// more, the database's, where the proxies of all workers listen; what is dropped on a link is dropped by the kernel, and
// what the worker's TCP makes of it is the real thing. PostgreSQL itself, the producers and this program are in the
// host's, to which nothing is added, and meet at Unix sockets, which lie in no network (`FleetNetwork`). All files of a
// fleet lie in one directory:
//
//   postgres/    a cluster, where the run fills a disk on a filesystem of its own (`postgres.img`, loop-mounted here)
//   replica/     the other one, where the run promotes; they change places each time
//   proxy/a/     the socket that the producers know as their first database; b is the second one's
//   worker-N/    the state of worker N, kept from one of its processes to the next; worker-N.log is what they say
//   artifacts/   the approved directory of all of them
//   told         what the producers were told
//
// Faults are injected by this process: into workers by signals, into PostgreSQL by pg_ctl and sessions of its own, into
// the network by rules of the kernel's and by the proxies. Each runs as a task of its own and may overlap any other; only
// what stops the server takes turns, because two of them would only get in each other's way. When the script is over
// everything is made well again, and the fleet has to finish what it owes before anything is judged.

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
  let network: FleetNetwork
  /// Those of worker N are the Nth, one for each cluster; the last ones are the producers'.
  let proxies: [[Proxy]]
  let producers: Pool
  let ledger: Ledger
  let server = Turn()
  let disk: Disk?
  private let pair: Mutex<Pair>
  private let supervisors: Mutex<[Task<Void, Never>]> = Mutex([])

  /// So that a run of hours stays within its disk.
  static let settings = ["max_wal_size=128MB", "min_wal_size=80MB"]

  var primary: PrivateCluster { pair.withLock { $0.primary } }
  var replica: PrivateCluster? { pair.withLock { $0.replica } }
  var promotions: Int { pair.withLock { $0.promotions } }
  var superuser: ConnectionSettings {
    ConnectionSettings(primary.url(database: Self.database), applicationName: "faults", connectTimeout: .seconds(2))
  }
  var artifacts: String { directory + "/artifacts" }
  var log: String { directory + "/faults.log" }

  /// Which cluster is which. Changed only by who has the turn.
  struct Pair: Sendable {
    var primary: PrivateCluster
    var replica: PrivateCluster?
    var promotions = 0
  }

  /// Starts the database; nobody serves yet.
  static func start(
    directory: String, products: String, workers: Int, fillsDisk: Bool, replicates: Bool
  ) async throws -> Fleet {
    let disk = fillsDisk ? try await Disk.mount(at: directory + "/postgres", log: directory + "/faults.log") : nil
    do {
      let cluster = try await PrivateCluster.start(directory: directory + "/postgres", settings: settings)
      try await cluster.createDatabase(database)
      let replica =
        replicates ? try await cluster.makeReplica(directory: directory + "/replica", settings: settings) : nil
      let fleet = try await Fleet(
        directory: directory, products: products, workers: workers, disk: disk,
        pair: Pair(primary: cluster, replica: replica))
      if replicates { try await fleet.waitForReplica() }
      return fleet
    } catch {
      for name in ["postgres", "replica"] {
        try? await PrivateCluster.start(directory: "\(directory)/\(name)").crash()
      }
      await disk?.unmount()
      throw error
    }
  }

  private init(
    directory: String, products: String, workers: Int, disk: Disk?, pair: Pair
  ) async throws {
    self.directory = directory
    self.products = products
    self.disk = disk
    self.pair = Mutex(pair)
    ledger = try Ledger(path: directory + "/told")
    let network = try await FleetNetwork.make(workers: workers, log: directory + "/faults.log")
    self.network = network
    let clusters = [pair.primary, pair.replica].compactMap { $0 }
    let addresses: [[Proxy.Address]] =
      (0..<workers).map { worker in
        (0..<2).map { .port(5432 + $0, of: FleetNetwork.address(for: worker), in: network.database) }
      } + [["a", "b"].map { .socket(directory: "\(directory)/proxy/\($0)") }]
    proxies = try addresses.map { sides in
      try zip(sides, clusters).map { address, cluster in
        try Proxy(address: address, upstream: cluster.socketDirectory)
      }
    }
    let proxies = proxies
    func url(_ proxies: [Proxy], _ role: String) -> String {
      let hosts = proxies.map(\.address.host).joined(separator: ",")
      let ports = proxies.map { "\($0.address.port)" }.joined(separator: ",")
      return "host=\(hosts) port=\(ports) dbname=\(Self.database) user=\(role) target_session_attrs=read-write"
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
        ], network: network.workers[number], log: "\(directory)/worker-\(number).log")
    }

    let pool = Pool(superuser, maximum: 1)
    let store = Store(pool: pool)
    try await store.migrate()
    try await store.ensureLogin(role: Self.producerRole, groups: ["cordon_producer"])
    try await store.ensureLogin(role: Self.workerRole, groups: ["cordon_worker"])
    try await store.addPrincipal(role: Self.producerRole, tenant: "faults")
    try await store.addPrincipal(role: Self.workerRole, tenant: nil)
    await pool.close()
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

  /// Runs a script as the superuser.
  func amend(_ script: String) async throws {
    let connection = try await Connection.connect(superuser)
    try await connection.execute(script: script)
    await connection.close()
  }

  /// Takes the roles of the two clusters from one to the other.
  func change(_ body: (inout Pair) -> Void) { pair.withLock { body(&$0) } }

  /// Starts the servers that are down.
  func startServer() async throws {
    // The start of a server that has to recover may take longer than its first caller waits.
    for attempt in 1... {
      do {
        for cluster in [primary, replica].compactMap({ $0 }) {
          _ = try await PrivateCluster.start(directory: cluster.directory, settings: Self.settings)
        }
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
    for proxy in proxies.joined() { proxy.close() }
    for cluster in [primary, replica].compactMap({ $0 }) { try? await cluster.crash() }
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
