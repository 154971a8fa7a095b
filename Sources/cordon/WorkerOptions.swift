import ArgumentParser
import Broker
import Credentials
import Crypto
import Foundation
import Identity
import Jobs
import Logging
import Policies
import Postgres
import Sandbox
import Store
import Worker

/// The options of a serving worker; shared by `worker` and `up`.
struct WorkerOptions: ParsableArguments {
  @Option(help: "Attempts at once. Default: the number of processors.")
  var slots: Int?

  @Option(help: "Cells that may wait, built for the next job. Default: as many as --slots, at most 64; 0: none.")
  var pool: Int?

  @Option(name: .customLong("queue"), help: "A queue to serve; repeat for more.")
  var queues: [String] = ["default"]

  @Option(help: "Name shown in records. Default: the host name.")
  var name: String?

  @Option(name: .customLong("input-root"), help: "Directory beneath which jobs may name inputs by path. Default: none.")
  var inputRoot: String?

  @Option(
    name: .customLong("credentials"),
    help: "File (YAML or JSON) of the credentials that grants may name, and who may use each. Default: none.")
  var credentials: String?

  @Option(help: "URL of the issuer in whose name this worker makes tokens of attempts. Default: it makes none.")
  var issuer: String?

  @Option(name: .customLong("issuer-keys"), help: "Directory of that issuer's keys (cordon issuer init).")
  var issuerKeys: String?

  @Option(
    name: .customLong("egress-trust"),
    help: "File of certificates (PEM) that destinations are verified by. Default: the host's own.")
  var egressTrust: String?

  @Option(name: .customLong("lease"), help: "How long without a heartbeat until others take over, such as 15s.")
  var lease = "15s"

  @Option(name: .customLong("drain-timeout"), help: "How long a drain waits for what runs, such as 30s.")
  var drainTimeout = "30s"

  @Option(name: .customLong("canary-interval"), help: "The longest time between two looks from inside a cell.")
  var canaryInterval = "3m"

  @Option(name: .customLong("warden"), help: "The cordon-warden executable. Default: beside this one.")
  var warden: String?

  @Option(name: .customLong("cgroup-base"), help: "A delegated cgroup, as a path beneath each hierarchy's root.")
  var cgroupBase: String?

  @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning, error or critical.")
  var logLevel = "info"

  /// A heartbeat is due every second, or three times a lease; below two seconds a busy host would lose its leases.
  private static let shortestLease: Int64 = 2_000
  /// The longest the database accepts (`cordon.register_worker`).
  private static let longestLease: Int64 = 3_600_000

  /// A waiting cell is two processes and some kernel memory; more than this few hosts need at one moment.
  private static let largestDefaultPool = 64

  /// A look makes several cells; more often than this it would be a load of its own.
  private static let canaryIntervals: ClosedRange<Int64> = 1_000...3_600_000

  func validate() throws {
    if let slots, !(1...1_000).contains(slots) { throw ValidationError("--slots: between 1 and 1000") }
    if let pool, !(0...512).contains(pool) { throw ValidationError("--pool: between 0 and 512") }
    let spans = [("--lease", lease), ("--drain-timeout", drainTimeout), ("--canary-interval", canaryInterval)]
    for (option, value) in spans where TimeSpan(value) == nil {
      throw ValidationError("\(option): '\(value)' is no duration; write 500ms, 15s or 5m")
    }
    if let lease = TimeSpan(lease), !(Self.shortestLease...Self.longestLease).contains(lease.milliseconds) {
      throw ValidationError("--lease: '\(self.lease)' is not between 2s and 1h")
    }
    if let canary = TimeSpan(canaryInterval), !Self.canaryIntervals.contains(canary.milliseconds) {
      throw ValidationError("--canary-interval: '\(canaryInterval)' is not between 1s and 1h")
    }
    if Logger.Level(rawValue: logLevel) == nil { throw ValidationError("--log-level: '\(logLevel)' is unknown") }
  }

  func logger() -> Logger {
    var logger = Logger(label: "cordon.worker", factory: StreamLogHandler.standardError(label:))
    logger.logLevel = Logger.Level(rawValue: logLevel) ?? .info
    return logger
  }

  /// What jobs with grants go out by. Whatever of it cannot be read stops the worker here and not at its first such job.
  private func egressService() throws -> EgressService {
    var keeper: CredentialKeeper?
    if let credentials {
      do {
        let text = try readText(credentials, field: "--credentials")
        keeper = try CredentialKeeper(CredentialDefinition.all(try PolicySource(text).value))
      } catch let error as CredentialError {
        throw Failure(.usage, "--credentials \(credentials): \(error)")
      } catch let error as PolicyProblem {
        throw Failure(.usage, "--credentials \(credentials): \(error)")
      }
    }
    var tokens: TokenIssuer?
    switch (issuer, issuerKeys) {
    case (let issuer?, let keys?):
      do {
        let url = try IssuerURL(issuer)
        tokens = TokenIssuer(
          url: url, trustDomain: try TrustDomain(url.host), keys: KeyDirectory(path: Installation.absolute(keys)))
      } catch { throw Failure(.usage, "--issuer \(issuer): \(error)") }
    case (nil, nil): break
    default: throw Failure(.usage, "--issuer and --issuer-keys: give both or neither")
    }
    let service = EgressService(
      trust: egressTrust.map { .file(Installation.absolute($0)) } ?? .system, keeper: keeper, issuer: tokens,
      logger: logger())
    if egressTrust != nil {
      do { try service.check() } catch { throw Failure(.usage, "--egress-trust \(egressTrust ?? ""): \(error)") }
    }
    return service
  }

  /// What records call this worker.
  var shownName: String { name ?? ProcessInfo.processInfo.hostName }

  private func readText(_ path: String, field: String) throws -> String {
    guard let data = FileManager.default.contents(atPath: path), let text = String(data: data, encoding: .utf8) else {
      throw Failure(.usage, "\(field): '\(path)' cannot be read as text")
    }
    return text
  }

  /// Serves until the signals say otherwise: the first one drains, the second one ends what runs.
  /// - Parameters:
  ///   - state: directory for what the worker needs while attempts run.
  ///   - artifacts: the approved directory that outputs are published to.
  ///   - identity: who this worker is; nil where `connection` says it.
  ///   - ready: called once the worker is about to serve.
  func serve(
    connection: String, state: String, artifacts: String, signals: Signals, identity: IdentityKeeper? = nil,
    ready: @escaping () -> Void = {}
  ) async throws {
    // First: it takes variables out of the environment.
    let egress = try egressService()
    let slots = slots ?? ProcessInfo.processInfo.activeProcessorCount
    let warden = try warden ?? Installation.warden()
    for directory in [state, artifacts] { try Installation.makeDirectory(directory) }
    let leaseSeconds = Double(TimeSpan(lease)!.milliseconds) / 1_000
    let pace = LeasePace(leaseSeconds: leaseSeconds)
    let configuration = WorkerConfiguration(
      name: shownName, host: ProcessInfo.processInfo.hostName,
      build: try Installation.buildDigest(warden: warden), slots: slots, queues: queues, approvedRoot: artifacts,
      inputRoot: inputRoot, leaseSeconds: leaseSeconds, drainTimeout: TimeSpan(drainTimeout)!.duration,
      heartbeatInterval: pace.heartbeatInterval, canaryInterval: TimeSpan(canaryInterval)!.duration)
    let settings = ConnectionSettings(
      connection, applicationName: "cordon worker", connectTimeout: pace.patience,
      statementTimeout: pace.statementTimeout, cancelGrace: pace.cancelGrace, login: identity?.login)
    // One for each attempt, which has one statement under way at most, and four for claim, heartbeat, rescue and
    // what is sent: a heartbeat never waits behind attempts. Connections are opened when they are needed.
    // An enrolled login has 64 (`enrolment_owner.sql`), of which renewals and LISTEN take a few.
    let connections = identity == nil ? slots + 4 : min(slots + 4, 56)
    let pool = Pool(settings, maximum: connections, waitLimit: pace.patience)
    // From here on: to prove that this host confines may take longer than half of a short life.
    let keeping = identity.map { identity in Task { await identity.keep(Store(pool: pool)) } }
    defer { keeping?.cancel() }
    do {
      let sandbox = try await Sandbox.start(
        SandboxConfiguration(
          wardenPath: warden, stateDirectory: state, approvedRoot: artifacts, cgroupBase: cgroupBase,
          pool: self.pool ?? min(slots, Self.largestDefaultPool)))
      let worker = try Worker(
        configuration: configuration, store: Store(pool: pool), sandbox: sandbox, stateDirectory: state,
        egress: egress, logger: logger())
      let received = signals.received
      let watcher = Task {
        var count = 0
        for await _ in received {
          count += 1
          if count == 1 { await worker.drain() } else { await worker.leave() }
        }
      }
      let keeper = keeping.map { keeping in
        Task { if let why = await keeping.value { await worker.identityIsOver(why) } }
      }
      defer { keeper?.cancel() }
      ready()
      do {
        try await worker.run()
      } catch {
        watcher.cancel()
        await sandbox.shutdown()
        throw error
      }
      watcher.cancel()
      await sandbox.shutdown()
      await pool.close()
    } catch {
      await pool.close()
      throw error
    }
  }
}

/// Where this copy of Cordon lies.
enum Installation {
  static func executable() throws -> URL {
    URL(fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
  }

  static func warden() throws -> String {
    let path = try executable().deletingLastPathComponent().appending(path: "cordon-warden").path
    guard FileManager.default.isExecutableFile(atPath: path) else {
      throw Failure(.environment, "no executable cordon-warden at '\(path)'; install it there or name it with --warden")
    }
    return path
  }

  /// What the attribution calls the build: a digest over the bytes of both executables.
  static func buildDigest(warden: String) throws -> Jobs.Digest {
    var hash = SHA256()
    for path in [try executable().path, warden] {
      guard let file = FileHandle(forReadingAtPath: path) else {
        throw Failure(.environment, "cannot read '\(path)' to digest it")
      }
      while let piece = try file.read(upToCount: 1 << 20), !piece.isEmpty { hash.update(data: piece) }
    }
    return Jobs.Digest(sha256: hash.finalize())
  }

  /// Where a worker keeps its state when nobody says: the system's place as root, the user's otherwise.
  static var defaultData: String {
    if geteuid() == 0 { return "/var/lib/cordon" }
    let environment = ProcessInfo.processInfo.environment
    let base = environment["XDG_STATE_HOME"] ?? (environment["HOME"] ?? "/tmp") + "/.local/state"
    return base + "/cordon"
  }

  static func makeDirectory(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    } catch {
      throw Failure(.environment, "cannot make the directory '\(path)': \(error.localizedDescription)")
    }
  }

  /// An absolute path; the worker and the warden must agree on it whatever their working directory.
  static func absolute(_ path: String) -> String {
    URL(fileURLWithPath: path).standardizedFileURL.path
  }
}
