import FoundationEssentials
import Jobs
import Postgres

// The producer's and the reader's side. Who asks, for which tenant and with which rights is the session's role; a
// refusal is a `PostgresError` of kind `server` whose message names the field: SQLSTATE 22023 malformed, 42501 not
// allowed, CD001 over a ceiling of the policy, CD404 no such job or attempt for this role. A database without this
// program's schema is a `SchemaError`.
extension Store {
  /// Puts a job into a queue.
  ///
  /// - Parameters:
  ///   - specification: JSON text, at most 1 MiB.
  ///   - key: idempotency key within the tenant, 1 to 255 bytes: the same request again returns the first job, another
  ///     one under the same key is refused.
  ///   - runAt: not before this moment, by the database's clock.
  ///   - priority: 0 to 9, lower first.
  ///   - startBefore: not after this moment; a job that has not started by then ends as `expired`.
  ///   - keyScope: `tenant`, which is the default, or `queue`.
  ///   - keyExpires: seconds after which the key is as if it had never been used; nil is never.
  ///   - lane: jobs of one lane of a tenant share a limit, where an operator set one; nil is the tenant's own lane.
  ///   - after: jobs of the tenant that must be over before this one may start.
  ///   - onFailure: what becomes of it when one of those does not succeed: `cancel`, which is the default, or `run`.
  public func enqueue(
    queue: String, specification: String, key: String? = nil, runAt: Date? = nil, priority: Int = 4,
    startBefore: Date? = nil, keyScope: String? = nil, keyExpires: Double? = nil, lane: String? = nil,
    after: [JobID] = [], onFailure: String? = nil
  ) async throws -> Enqueued {
    let row = try await one(
      .enqueue,
      [
        Parameter(queue), Parameter(specification), Parameter(key), Parameter(runAt), Parameter(priority),
        Parameter(startBefore), Parameter(keyScope), Parameter(keyExpires), Parameter(lane),
        Parameter(after.map(\.description)), Parameter(onFailure),
      ])
    return Enqueued(job: try Self.jobID(row), created: try row.get("created"))
  }

  /// Puts several jobs into a queue, all or none; they are claimed in this order. None at all is no error.
  public func enqueueMany(
    queue: String, specifications: [String], priority: Int = 4, lane: String? = nil
  ) async throws -> [JobID] {
    try await all(.enqueueMany, [Parameter(queue), Parameter(specifications), Parameter(priority), Parameter(lane)])
      .map { try Self.jobID($0) }
  }

  /// Stores at most 64 MiB for the tenant, once; the digest is computed by the database.
  public func putBlob(_ bytes: [UInt8]) async throws -> Digest {
    let text = try await one(.putBlob, [Parameter(bytes)]).get("digest", as: String.self)
    guard let digest = Digest(text) else { throw PostgresError(.decoding, "\(text) is no digest") }
    return digest
  }

  /// Cancels a job: `cancelled` when it was waiting, `cancelling` while its worker stops it, `finished` when it was
  /// over before.
  public func cancel(_ job: JobID) async throws -> String {
    try await one(.cancel, [Parameter(job.description)]).get("state")
  }

  /// Puts a waiting job off until a moment; refused (22023) for one that runs or has ended.
  public func snooze(_ job: JobID, until moment: Date) async throws {
    try await all(.snooze, [Parameter(job.description), Parameter(moment)])
  }

  /// The record of a job as JSON text, at an attempt or at its latest.
  public func record(_ job: JobID, attempt: Int? = nil) async throws -> String {
    try await one(.record, [Parameter(job.description), Parameter(attempt)]).get("record")
  }

  /// The newest jobs as JSON texts.
  /// - Parameters:
  ///   - state: `scheduled`, `queued`, `running`, `finished`; nil is all.
  ///   - limit: 1 to 1000.
  public func jobs(state: String? = nil, queue: String? = nil, limit: Int = 100) async throws -> [String] {
    try await all(.jobs, [Parameter(state), Parameter(queue), Parameter(limit)]).map { try $0.get("job") }
  }

  /// Pieces of an attempt's streams with sequence numbers above `after` (-1 for all), in order.
  /// - Parameters:
  ///   - attempt: nil is the one that runs, or else the last that ended.
  ///   - limit: 1 to 10000.
  public func logs(_ job: JobID, attempt: Int? = nil, after: Int64 = -1, limit: Int = 100) async throws -> [LogChunk] {
    try await all(
      .logs, [Parameter(job.description), Parameter(attempt), Parameter(after), Parameter(limit)]
    ).map { row in
      LogChunk(
        attempt: try row.get("attempt"), stream: try row.get("stream"), sequence: try row.get("sequence"),
        at: try row.get("at"), bytes: try row.get("bytes"))
    }
  }

  /// Gives a role a tenant; operators only. Again for the same role, it replaces what was.
  /// - Parameters:
  ///   - tenant: nil for a worker that serves every tenant.
  ///   - queues: the only queues the role may use; nil is all.
  ///   - firstPriority: the most urgent priority it may ask for, 0 to 9.
  public func addPrincipal(
    role: String, tenant: String?, queues: [String]? = nil, firstPriority: Int = 0
  ) async throws {
    try await all(
      .addPrincipal, [Parameter(role), Parameter(tenant), Parameter(queues), Parameter(firstPriority)])
  }
}
