import FoundationEssentials
import Jobs
import Postgres

// The worker's side. Every call names the worker, and the database checks that the session's role registered it
// (42501 otherwise, also when it has been silent for so long that it was forgotten: register again). Every write for
// an attempt names the fencing token of its lease.
extension Store {
  /// Registers a worker of this role and returns its id.
  ///
  /// - Parameters:
  ///   - name: 1 to 128 bytes, for people.
  ///   - build: digest of the worker's program.
  ///   - queues: the queues it will serve, at least one.
  ///   - leaseSeconds: how long it may be silent before its jobs are given to others, 0.1 to 3600.
  public func registerWorker(
    name: String, host: String, build: String, queues: [String], slots: Int, leaseSeconds: Double
  ) async throws -> Int64 {
    try await one(
      .registerWorker,
      [
        Parameter(name), Parameter(host), Parameter(build), Parameter(queues), Parameter(slots),
        Parameter(leaseSeconds),
      ]
    ).get("worker")
  }

  /// Takes up to `limit` jobs. Fewer than that marks the worker idle, and the next enqueue notifies `cordon_ready`.
  public func claim(worker: Int64, limit: Int) async throws -> [Claim] {
    try await all(.claim, [Parameter(worker), Parameter(limit)]).map { try Self.claim($0) }
  }

  /// Makes the start of attempts durable and returns the jobs that may run: still ours and not cancelled.
  public func start(worker: Int64, claims: [Claim]) async throws -> Set<JobID> {
    let rows = try await all(.start, [Parameter(worker)] + Self.held(claims))
    return Set(try rows.map { try Self.jobID($0) })
  }

  /// Says that the worker lives, and learns which of the jobs it holds are cancelled or lost.
  public func heartbeat(
    worker: Int64, held: [(job: JobID, token: Int64)]
  ) async throws -> [JobID: HeartbeatVerdict] {
    let rows = try await all(
      .heartbeat, [Parameter(worker), Parameter(held.map(\.job.description)), Parameter(held.map(\.token))])
    var verdicts: [JobID: HeartbeatVerdict] = [:]
    for row in rows {
      let word = try row.get("verdict", as: String.self)
      guard let verdict = HeartbeatVerdict(rawValue: word) else {
        throw PostgresError(.decoding, "\(word) is no verdict", statement: Query.heartbeat.rawValue)
      }
      verdicts[try Self.jobID(row)] = verdict
    }
    return verdicts
  }

  /// Records a finished attempt. False when the lease is gone: then nothing is recorded but that the report came late,
  /// and what the attempt published must be withdrawn. The same completion again is true and records nothing twice.
  ///
  /// A result that the database cannot hold is recorded as null with the reason `result_invalid`. An attempt whose
  /// outcome is `lost` goes back to the queue while attempts remain.
  public func complete(worker: Int64, claim: Claim, report: AttemptReport) async throws -> Bool {
    try await complete(worker: worker, finished: [(claim, report)])[claim.job] ?? false
  }

  /// Records several finished attempts in one round trip and one commit.
  public func complete(worker: Int64, finished: [(claim: Claim, report: AttemptReport)]) async throws -> [JobID: Bool] {
    let encoded = try finished.map { try EncodedReport($0.report) }
    let rows = try await all(
      .complete,
      [Parameter(worker)] + Self.held(finished.map(\.claim))
        + [Parameter(encoded.map(\.report)), Parameter(encoded.map(\.result))])
    return Dictionary(
      try rows.map { (try Self.jobID($0), try $0.get("recorded", as: Bool.self)) }, uniquingKeysWith: { $0 || $1 })
  }

  /// Gives leases back.
  /// - Parameters:
  ///   - started: false when no job byte ran and `start` was not called: the attempt does not count.
  ///   - reason: one line for the record.
  public func release(worker: Int64, claims: [Claim], started: Bool, reason: String) async throws {
    try await pool.query(
      Query.release.statement, [Parameter(worker)] + Self.held(claims) + [Parameter(started), Parameter(reason)])
  }

  /// Ends up to `limit` leases whose worker is gone or whose deadline has passed, and returns how many. Promotes
  /// scheduled jobs that are due and makes partitions ahead of time. Any worker or operator may call it, often.
  public func rescue(limit: Int) async throws -> Int {
    try await pool.query(Query.ensurePartitions.statement)
    return try await one(.rescue, [Parameter(limit)]).get("rescued")
  }

  /// The worker leaves. What it still holds is rescued by others.
  public func retireWorker(_ worker: Int64) async throws {
    try await pool.query(Query.retireWorker.statement, [Parameter(worker)])
  }

  /// Keeps a piece of output, at most 1 MiB; false when the lease is gone. The same sequence number again changes
  /// nothing.
  public func appendLog(
    worker: Int64, claim: Claim, stream: String, sequence: Int64, bytes: [UInt8]
  ) async throws -> Bool {
    try await one(
      .appendLog,
      [
        Parameter(worker), Parameter(claim.job.description), Parameter(claim.token), Parameter(stream),
        Parameter(sequence), Parameter(bytes),
      ]
    ).get("kept")
  }

  /// A blob that the claimed job's specification names; refused (42501) for any other and when the lease is gone.
  public func readBlob(worker: Int64, claim: Claim, digest: Digest) async throws -> [UInt8] {
    // 4 MiB an answer.
    let chunksPerCall = 16
    var bytes: [UInt8] = []
    var next = 0
    while true {
      let rows = try await all(
        .readBlob,
        [
          Parameter(worker), Parameter(claim.job.description), Parameter(claim.token), Parameter(digest.description),
          Parameter(next), Parameter(chunksPerCall),
        ])
      for row in rows { bytes += try row.get("bytes", as: [UInt8].self) }
      next += rows.count
      if rows.count < chunksPerCall { return bytes }
    }
  }

  private static func held(_ claims: [Claim]) -> [Parameter] {
    [Parameter(claims.map(\.job.description)), Parameter(claims.map(\.token))]
  }

  /// A row of `claim`. What cannot be read becomes the claim's error and never a thrown one: the lease is taken, and
  /// only its holder can end it with a reason.
  private static func claim(_ row: Row) throws -> Claim {
    let policyName = try row.get("policy", as: String.self)
    guard let policy = Digest(policyName) else { throw PostgresError(.decoding, "\(policyName) is no digest") }
    let specification = Result {
      try JSONDecoder().decode(
        JobSpecification.self, from: Data(try row.get("specification", as: String.self).utf8))
    }
    let limits = Result {
      try JSONDecoder().decode(Limits.self, from: Data(try row.get("limits", as: String.self).utf8))
    }
    var problem: String?
    if case .failure(let error) = specification { problem = "specification: \(error)" }
    if case .failure(let error) = limits { problem = "limits: \(error)" }
    return Claim(
      job: try jobID(row), attempt: try row.get("attempt"), token: try row.get("token"), tenant: try row.get("tenant"),
      queue: try row.get("queue"), enqueuedBy: try row.get("enqueued_by"),
      specification: problem == nil ? try? specification.get() : nil, specificationError: problem,
      limits: (try? limits.get()) ?? Limits(), policy: policy, policyDocument: try row.get("document"))
  }
}
