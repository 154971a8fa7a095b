import FoundationEssentials
import Jobs
import Postgres
import Schedules

// Jobs that come again. The producer's side is that of a tenant; operators name any. A worker computes what is due and hands
// it in; the database sees to it that each instant is fired once, whoever does it and however often.
extension Store {
  /// A schedule that a worker is to look at.
  public struct DueSchedule: Sendable, Equatable {
    public let tenant: String
    public let name: String
    /// What the database will compare when something is handed in.
    public let turn: Int64
    /// JSON text.
    public let document: String
    /// Every instant up to here is settled.
    public let handledAt: Date
    /// The database's clock.
    public let now: Date
  }

  /// Makes or replaces a schedule of the session's tenant. One that was paused stays so.
  /// - Parameters:
  ///   - document: JSON text as `ScheduleDocument` reads it, at most 1 MiB.
  ///   - nextAt: its first instant; nil lets a worker compute it.
  /// - Returns: the document's revision, and false where nothing changed.
  @discardableResult
  public func setSchedule(
    _ name: String, document: String, nextAt: Date? = nil
  ) async throws -> (revision: Int, changed: Bool) {
    let row = try await one(.setSchedule, [Parameter(name), Parameter(document), Parameter(nextAt)])
    return (try row.get("revision"), try row.get("changed"))
  }

  /// Ends a schedule; what it has enqueued stays.
  /// - Parameter tenant: for operators; nil is the session's own.
  public func removeSchedule(_ name: String, tenant: String? = nil) async throws {
    try await all(.removeSchedule, [Parameter(name), Parameter(tenant)])
  }

  /// Lets a schedule fire no more until it is resumed.
  public func pauseSchedule(_ name: String, tenant: String? = nil) async throws {
    try await all(.pauseSchedule, [Parameter(name), Parameter(tenant)])
  }

  /// Lets a paused schedule fire again; instants of the pause are not caught up with.
  public func resumeSchedule(_ name: String, tenant: String? = nil) async throws {
    try await all(.resumeSchedule, [Parameter(name), Parameter(tenant)])
  }

  /// Schedules as JSON texts, by tenant and name.
  /// - Parameters:
  ///   - name: nil is all.
  ///   - limit: 1 to 10000.
  public func schedules(name: String? = nil, limit: Int = 1_000) async throws -> [String] {
    try await all(.schedules, [Parameter(name), Parameter(limit)]).map { try $0.get("schedule") }
  }

  /// What a worker is to look at now, the longest due first.
  public func dueSchedules(limit: Int) async throws -> [DueSchedule] {
    try await all(.dueSchedules, [Parameter(limit)]).map { row in
      DueSchedule(
        tenant: try row.get("tenant"), name: try row.get("name"), turn: try row.get("turn"),
        document: try row.get("document"), handledAt: try row.get("handled_at"), now: try row.get("now"))
    }
  }

  /// Seconds until the next schedule is due, negative when one is; nil when none will be.
  public func scheduleDueIn() async throws -> Double? {
    try await one(.scheduleDueIn).get("seconds")
  }

  /// Hands in what was computed for a schedule.
  /// - Returns: the jobs that were enqueued; nil, and nothing has happened, when somebody else has fired this turn or the
  ///   schedule has changed.
  @discardableResult
  public func fire(_ due: DueSchedule, _ firing: Firing) async throws -> [JobID]? {
    let row = try await one(
      .fireSchedule,
      [
        Parameter(due.tenant), Parameter(due.name), Parameter(due.turn),
        Parameter(firing.instants.map { $0.formatted(.iso8601) }), Parameter(firing.forgone?.lowerBound),
        Parameter(firing.forgone?.upperBound), Parameter(firing.handled), Parameter(firing.next),
      ])
    return try row.get("jobs", as: [String]?.self)?.map { text in
      guard let job = JobID(text) else {
        throw PostgresError(.decoding, "\(text) is no job id", statement: Query.fireSchedule.rawValue)
      }
      return job
    }
  }

  /// Says that a schedule's document cannot be used; nobody is asked to look at it again until it is set anew.
  public func breakSchedule(_ due: DueSchedule, problem: String) async throws {
    try await all(
      .breakSchedule, [Parameter(due.tenant), Parameter(due.name), Parameter(due.turn), Parameter(problem)])
  }
}
