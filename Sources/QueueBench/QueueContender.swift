/// How one round of one contender went.
struct Effort: Sendable {
  var jobs: Int
  var seconds: Double
  /// Answers the clients waited for; nil where nobody counted.
  var roundTrips: Int?
  /// Put in by `Round`, from the server's counters.
  var walBytes: Int64?
  var died: Int64?
  var dead: Int64?

  var perSecond: Double { Double(jobs) / seconds }

  func perJob(_ value: Int64?) -> Double? { value.map { Double($0) / Double(jobs) } }
}

/// A queue, with its clients, in a database of its own.
protocol QueueContender: Sendable {
  var name: String { get }
  /// The settings it is measured with, for the table.
  var strategy: String { get }
  var database: String { get }

  /// Makes the database and the schema.
  func prepare() async throws
  /// Enqueues jobs that do nothing, in bulk; nothing else runs meanwhile.
  func fill(_ jobs: Int) async throws -> Effort
  /// Takes jobs until `jobs` are done and recorded as done, or, for one that is slower, until the time is over. The clock
  /// starts when its clients are connected and stops when the last result is durable.
  func drain(_ jobs: Int, within seconds: Double) async throws -> Effort
  /// Removes what a drain left.
  func clear() async throws
}

/// One who is not measured, and why.
struct Absentee: Sendable {
  var name: String
  var reason: String
}
