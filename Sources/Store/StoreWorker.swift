import FoundationEssentials
import Jobs
import Postgres

// The worker's side. Every call names the worker, and the database checks that the session's role registered it
// (CD410 otherwise, also when it has been silent for so long that it was forgotten: what it held is lost, register
// again). Every write for an attempt names the fencing token of its lease.
extension Store {
  /// Registers a worker of this role and returns its id.
  ///
  /// - Parameters:
  ///   - name: 1 to 128 bytes, for people.
  ///   - build: digest of the worker's program.
  ///   - queues: the queues it will serve, at least one.
  ///   - leaseSeconds: how long it may be silent before its jobs are given to others, 0.1 to 3600.
  ///   - missing: controls the host of this worker does not give. It is refused (42501) unless the policy in force
  ///     waives each, and given only jobs whose own policy does.
  ///   - offers: what it has that a policy may ask for. It is given no job whose policy asks for anything else.
  public func registerWorker(
    name: String, host: String, build: String, queues: [String], slots: Int, leaseSeconds: Double,
    missing: [String] = [], offers: [String] = []
  ) async throws -> Int64 {
    try await one(
      .registerWorker,
      [
        Parameter(name), Parameter(host), Parameter(build), Parameter(queues), Parameter(slots),
        Parameter(leaseSeconds), Parameter(missing), Parameter(offers),
      ]
    ).get("worker")
  }

  /// Takes up to `limit` jobs. A look that finds none marks the worker idle, and the next enqueue notifies `cordon_ready`.
  /// - Parameter beginning: what is known of any attempt of this worker. With it, a job that a look finds alone begins at once
  ///   where it needs no more than its specification (`Claim.isBegun`); its code is added to this. Nil: nothing begins.
  /// - Throws: SQLSTATE 40001 where something changed meanwhile; nothing is claimed then, and the same may be asked again.
  public func claim(
    worker: Int64, limit: Int, search: LaneSearch = .look(behind: 0), beginning: StartAttribution? = nil
  ) async throws -> [Claim] {
    let rows: [Row]
    var mayHaveBegun = false
    switch (search, beginning) {
    case (.look(let behind), let beginning?):
      mayHaveBegun = true
      rows = try await all(
        .claimBegun,
        [
          Parameter(worker), Parameter(limit), Parameter(Int64(behind)), Parameter(EncodedAttribution(beginning).text),
        ])
    case (.look(let behind), nil):
      rows = try await claim(worker, limit, lanes: [], behind: behind)
    case (.known(let lanes), _):
      rows = try await claim(worker, limit, lanes: lanes, behind: nil)
    }
    var reader = ClaimReader()
    return try rows.map { try reader.claim($0, mayHaveBegun: mayHaveBegun) }
  }

  private func claim(_ worker: Int64, _ limit: Int, lanes: [KnownLane], behind: Int32?) async throws -> [Row] {
    try await all(
      .claim,
      [
        Parameter(worker), Parameter(limit), Parameter(lanes.map { Int64($0.lane) }), Parameter(lanes.map(\.floor)),
        Parameter(behind.map { Int64($0) }),
      ])
  }

  /// Makes the start of attempts durable and returns the jobs that may run: still ours and not cancelled. What is
  /// known of their attribution stands in the record until a report replaces it.
  public func start(
    worker: Int64, _ starts: [(claim: Claim, attribution: StartAttribution)]
  ) async throws -> Set<JobID> {
    let attributions = starts.map { EncodedAttribution($0.attribution).text }
    let rows = try await all(
      .start, [Parameter(worker)] + Self.held(starts.map(\.claim)) + [Parameter(attributions)])
    return Set(try rows.map { try Self.jobID($0) })
  }

  /// Says that the worker lives, and learns which of the jobs it holds are cancelled or lost.
  ///
  /// `held` must name every claim the worker knows of: one that is left out, and older than the worker's lease (5 s at
  /// least), goes back to the queue, because the answer to its claim or to its end must have been lost.
  public func heartbeat(
    worker: Int64, held: [(job: JobID, token: Int64)]
  ) async throws -> [Int64: HeartbeatVerdict] {
    let rows = try await all(
      .heartbeat, [Parameter(worker), Parameter(held.map(\.job.description)), Parameter(held.map(\.token))])
    var verdicts: [Int64: HeartbeatVerdict] = [:]
    for row in rows {
      let word = try row.get("verdict", as: String.self)
      guard let verdict = HeartbeatVerdict(rawValue: word) else {
        throw PostgresError(.decoding, "\(word) is no verdict", statement: Query.heartbeat.rawValue)
      }
      verdicts[try row.get("token")] = verdict
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
    let encoded = finished.map { EncodedReport($0.report) }
    let rows = try await all(
      .complete,
      [Parameter(worker)] + Self.held(finished.map(\.claim))
        + [Parameter(encoded.map(\.report)), Parameter(encoded.map(\.result))])
    return Dictionary(
      try rows.map { (try Self.jobID($0), try $0.get("recorded", as: Bool.self)) }, uniquingKeysWith: { $0 || $1 })
  }

  /// Gives leases back. An attempt that had started is `lost`, and the job waits for the next one while attempts
  /// remain; one that had not waits again under the same number.
  /// - Parameters:
  ///   - started: true when job bytes may have run. False is for a start that was never asked for or never
  ///     acknowledged: the attempt then counts only if the database has its start.
  ///   - reason: one line for the record.
  public func release(worker: Int64, claims: [Claim], started: Bool, reason: String) async throws {
    try await all(.release, [Parameter(worker)] + Self.held(claims) + [Parameter(started), Parameter(reason)])
  }

  /// Ends up to `limit` leases whose worker is gone or whose deadline has passed, and returns how many. Promotes
  /// scheduled jobs that are due and makes partitions ahead of time. Any worker or operator may call it, often.
  public func rescue(limit: Int) async throws -> Int {
    try await all(.ensurePartitions)
    return try await one(.rescue, [Parameter(limit)]).get("rescued")
  }

  /// What became of the attempts that published directories, in the order asked; the worker withdraws the dead ones.
  public func published(worker: Int64, _ attempts: [(job: JobID, attempt: Int)]) async throws -> [PublishedVerdict] {
    let rows = try await all(
      .attemptPublished,
      [
        Parameter(worker), Parameter(attempts.map(\.job.description)),
        // No attempt has a number that high, so the answer is the same.
        Parameter(attempts.map { Int64(Int32(clamping: $0.attempt)) }),
      ])
    guard rows.count == attempts.count else {
      throw PostgresError(
        .decoding, "\(rows.count) verdicts for \(attempts.count) attempts", statement: Query.attemptPublished.rawValue)
    }
    return try rows.map { row in
      let word = try row.get("verdict", as: String.self)
      guard let verdict = PublishedVerdict(rawValue: word) else {
        throw PostgresError(.decoding, "\(word) is no verdict", statement: Query.attemptPublished.rawValue)
      }
      return verdict
    }
  }

  /// Says why the worker stops by itself; it is given no job any more. The first reason stands.
  public func reportDrained(worker: Int64, reason: String) async throws {
    // jsonb and text have no U+0000.
    try await all(.reportDrained, [Parameter(worker), Parameter(reason.filter { $0 != "\0" })])
  }

  /// The worker leaves. What it still holds is rescued by others.
  public func retireWorker(_ worker: Int64) async throws {
    try await all(.retireWorker, [Parameter(worker)])
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

  /// Keeps what running attempts of this worker say of their progress, the latest of each. One whose lease is gone is passed
  /// over.
  /// - Parameter reports: at most `ProgressReport.longest` bytes each as JSON.
  public func reportProgress(worker: Int64, _ reports: [(claim: Claim, report: JSONValue)]) async throws {
    // Slashes as they are: an escaped one would be a byte more than the job wrote.
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    let encoded = try reports.map { String(decoding: try encoder.encode($0.report), as: UTF8.self) }
    try await all(
      .reportProgress, [Parameter(worker)] + Self.held(reports.map(\.claim)) + [Parameter(encoded)])
  }

  /// A blob that the claimed job's specification names; refused (42501) for any other and when the lease is gone.
  public func readBlob(worker: Int64, claim: Claim, digest: Digest) async throws -> [UInt8] {
    // 1 MiB an answer, which a slow link carries within a statement's deadline.
    let chunksPerCall = 4
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

  /// What a job made that the claimed job's specification names as an input; nil while that job is not over. Refused (42501)
  /// for any other job and when the lease is gone.
  public func readMade(worker: Int64, claim: Claim, parent: JobID) async throws -> MadeByJob? {
    let rows = try await all(
      .readMade,
      [
        Parameter(worker), Parameter(claim.job.description), Parameter(claim.token), Parameter(parent.description),
      ])
    guard let row = rows.first else { return nil }
    return MadeByJob(
      attempt: try row.get("attempt"), result: try row.get("result"),
      artifacts: try JSONDecoder().decode([Artifact].self, from: Data(try row.get("artifacts", as: String.self).utf8)))
  }

  private static func held(_ claims: [Claim]) -> [Parameter] {
    [Parameter(claims.map(\.job.description)), Parameter(claims.map(\.token))]
  }
}
