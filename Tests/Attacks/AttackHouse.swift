import Foundation
import Glibc
import Jobs
import Postgres
import TestKit

/// The house of the attacks: a worker with a secret in its environment, and what is asked of its database.
struct AttackHouse: Sendable {
  let house: House
  /// `cordon up` itself, or an ordinary user's `cordon worker` on its database; root's own serves no queue of ours then.
  let worker: RunningTool
  let user: OrdinaryUser?
  /// Where that worker's state and artifacts lie.
  let directory: String
  /// The queue it serves.
  let queue: String
  /// What its jobs may be allowed to reach; nil where the worker has no credentials and finds no such name.
  let upstream: Upstream?
  /// As whoever enqueues.
  let client: Pool
  /// As the cluster's superuser, who sees every row.
  let superuser: Pool

  /// In the environment of the worker, where no job may find it. Some of its capabilities are inheritable as well, as
  /// a careless unit makes them: neither an execve nor a change of uid empties that set.
  static let secret = (name: "CORDON_ATTACK_SECRET", value: "environment-\(UUID().uuidString)")

  /// - Parameter upstream: with it goes a policy that grants what `Granted` says.
  init(slots: Int, options: [String] = [], upstream: Upstream? = nil) async throws {
    self.upstream = upstream
    if WorkerUser.isOrdinary {
      house = try await House(slots: 1, options: ["--pool", "0"])
      house.openSocket()
      queue = "ordinary"
      try await house.addQueue(queue)
      _ = try await house.waive("uids")
      if let upstream { try await house.amendPolicy(Granted.policy(upstream)) }
      let user = try OrdinaryUser()
      self.user = user
      directory = user.data
      worker = try Self.worker(
        of: house, user, directory,
        ["--queue", queue, "--slots", String(slots)] + options + (upstream.map(Granted.options) ?? []),
        through: upstream?.through ?? [])
    } else {
      house = try await House(
        slots: slots, options: options + (upstream.map(Granted.options) ?? []),
        environment: [Self.secret.name: Self.secret.value],
        through: ["/usr/bin/setpriv", "--inh-caps", Self.inheritable] + (upstream?.through ?? []))
      if let upstream { try await house.amendPolicy(Granted.policy(upstream)) }
      (worker, user, directory, queue) = (await house.up, nil, house.directory.path, "default")
    }
    client = Pool(ConnectionSettings(house.tool.url), maximum: 12)
    superuser = Pool(ConnectionSettings(house.superuser), maximum: 4)
    // The worker serves once this has run; what it needs for its first job is there from now on.
    let first = try await enqueue(["runtime": .string("exec"), "argv": .array([.string("/usr/bin/true")])])
    let isOver = try? await finished(first)
    guard isOver?["outcome"] == .string("succeeded") else {
      throw Problem("the house runs no job: \(worker.stderr.suffix(1_000))")
    }
  }

  private static let inheritable = "+chown,+kill,+net_raw"

  private static func worker(
    of house: House, _ user: OrdinaryUser?, _ directory: String, _ options: [String], through: [String] = []
  ) throws -> RunningTool {
    let base = user.map { ["--cgroup-base", $0.groups.name] } ?? []
    return try RunningTool(
      ["worker", "--data", directory, "--database", house.worker] + base + options,
      environment: ProcessInfo.processInfo.environment.merging([secret.name: secret.value]) { _, given in given },
      through: through + (user?.through(inheritable: inheritable) ?? []))
  }

  /// Another worker on the same database, of the same user.
  func otherWorker(_ options: [String] = []) throws -> RunningTool {
    let own = options.contains("--queue") ? [] : ["--queue", queue]
    return try Self.worker(of: house, user, directory + "/other-\(UUID().uuidString)", own + options)
  }

  func close() async throws {
    await client.close()
    await superuser.close()
    if let user {
      worker.signal(SIGTERM)
      _ = try await worker.answer()
      user.remove()
    }
    try await house.close()
  }

  /// Where its wardens make their groups, beneath the root of each hierarchy.
  var groups: String { user?.groups.name ?? "cordon" }

  /// The wardens of its worker, as the host sees them.
  func wardens() -> [pid_t] {
    let worker = worker.process.processIdentifier
    return CleanHost.processes().filter {
      CleanHost.parent(of: $0) == worker && CleanHost.name(of: $0) == "cordon-warden"
    }
  }

  func enqueue(_ specification: [String: JSONValue], queue: String? = nil) async throws -> String {
    let text = String(decoding: try JSONEncoder().encode(JSONValue.object(specification)), as: UTF8.self)
    let statement = Statement(
      name: "attack-enqueue", sql: "SELECT cordon.enqueue($2::text, $1::text::jsonb)::text AS job")
    return try await one(client, statement, [Parameter(text), Parameter(queue ?? self.queue)]).get("job")
  }

  func record(_ job: String) async throws -> JSONValue {
    let statement = Statement(name: "attack-record", sql: "SELECT cordon.record($1::text::uuid)::text AS record")
    let text = try await one(client, statement, [Parameter(job)]).get("record", as: String.self)
    return try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
  }

  /// The record once the job is where `condition` wants it.
  func wait(
    for job: String, limit: Duration = .seconds(40), until condition: (JSONValue) -> Bool
  ) async throws -> JSONValue {
    let end = ContinuousClock.now + limit.patiently
    while true {
      let record = try await record(job)
      if condition(record) { return record }
      guard ContinuousClock.now < end else {
        throw Problem("job \(job) is \(record["state"]?.string ?? "unknown") after \(limit.patiently)")
      }
      try await Task.sleep(for: .milliseconds(30))
    }
  }

  func finished(_ job: String) async throws -> JSONValue {
    try await wait(for: job) { $0["state"] == .string("finished") }
  }

  func running(_ job: String) async throws -> JSONValue {
    try await wait(for: job) { $0["state"] != .string("queued") }
  }

  func logs(_ job: String) async throws -> (stdout: String, stderr: String) {
    let statement = Statement(
      name: "attack-logs", sql: "SELECT stream, bytes FROM cordon.logs($1::text::uuid, NULL, NULL, 10000)")
    var (stdout, stderr): ([UInt8], [UInt8]) = ([], [])
    for row in try await client.query(statement, [Parameter(job)]) {
      let bytes = try row.get("bytes", as: [UInt8].self)
      if try row.get("stream", as: String.self) == "stdout" { stdout += bytes } else { stderr += bytes }
    }
    return (String(decoding: stdout, as: UTF8.self), String(decoding: stderr, as: UTF8.self))
  }

  /// What was decided about a job's connections and requests, in order.
  func ledger(_ job: String) async throws -> [JSONValue] {
    let statement = Statement(
      name: "attack-ledger", sql: "SELECT line FROM cordon.egress_line WHERE job = $1::text::uuid ORDER BY seq")
    return try await superuser.query(statement, [Parameter(job)]).map {
      try JSONDecoder().decode(JSONValue.self, from: Data(try $0.get("line", as: String.self).utf8))
    }
  }

  /// Runs the specification to its end.
  func evidence(_ specification: [String: JSONValue], _ place: Place) async throws -> Evidence {
    let job = try await enqueue(specification)
    let record = try await finished(job)
    let (stdout, stderr) = try await logs(job)
    return Evidence(
      record: record, seen: Evidence.book(result: record["result"], stdout: stdout), stdout: stdout, stderr: stderr,
      exit: nil, place: place, house: self)
  }

  /// Runs a payload under a case's label.
  func evidence(
    _ payload: Payload, _ arguments: [String] = [], label: String, asks: [String: JSONValue] = [:], _ place: Place
  ) async throws -> Evidence {
    try await evidence(payload.specification(arguments, label: label, asks: asks), place)
  }

  /// What is wrong with the rows of a job that should have ended once, and under this label.
  func rowProblems(of job: String, attack: String, finals: Int = 1) async throws -> [String] {
    let statement = Statement(
      name: "attack-rows",
      sql: """
        SELECT (SELECT count(*) FROM cordon.attempt a WHERE a.job = j.id AND a.final) AS finals,
          (SELECT count(*) FROM cordon.ready r WHERE r.job = j.id)
            + (SELECT count(*) FROM cordon.scheduled s WHERE s.job = j.id)
            + (SELECT count(*) FROM cordon.lease l WHERE l.job = j.id) AS elsewhere,
          j.specification -> 'labels' ->> 'attack' AS attack
        FROM cordon.job j WHERE j.id = $1::text::uuid
        """)
    let row = try await one(superuser, statement, [Parameter(job)])
    var problems: [String] = []
    let found: Int = try row.get("finals")
    if found != finals { problems.append("\(found) final rows in PostgreSQL, not \(finals)") }
    if try row.get("elsewhere", as: Int.self) != 0 { problems.append("it is over and waiting or running as well") }
    if try row.get("attack", as: String?.self) != attack { problems.append("the job's row does not name the attack") }
    return problems
  }

  private func one(_ pool: Pool, _ statement: Statement, _ parameters: [Parameter]) async throws -> Row {
    guard let row = try await pool.query(statement, parameters).first else {
      throw Problem("\(statement.name): no row")
    }
    return row
  }
}
