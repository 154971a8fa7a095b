/// How long one run took, in microseconds.
struct Latency: Sendable {
  /// Until the program was about to run, for those who say so.
  var started: Double?
  /// Until everything that is known of its end was known.
  var total: Double
}

/// One way to run a program. The clock of a latency sample covers what stands between wanting a result and having
/// it; what a contender does later, `settle` waits for, and the sustained rate counts.
protocol Contender: Sendable {
  var name: String { get }
  /// What is different from the others and cannot be told from the name; empty when nothing is.
  var note: String { get }
  /// Limits of memory, processes and processor time are set, so the probes must fail.
  var limitsResources: Bool { get }
  /// The wardens whose processor time is this contender's.
  var wardens: [Int32] { get }

  func offers(_ program: Program) -> Bool
  /// Runs it once to its end. `slot` is below `slots`; a slot is used by one run at a time. Throws when the program
  /// did not end well.
  func run(_ program: Program, slot: Int) async throws -> Latency
  /// Runs one after the other while it is wanted, and returns how many.
  func runs(_ program: Program, slot: Int, while wanted: @escaping @Sendable () -> Bool) async throws -> Int
  /// What is prepared in advance, if anything, so that nothing prepared comes for free: as much has to be there at
  /// the end of a sustained run as there was at its start.
  func prepared() throws -> Int
  /// Waits until nothing is left of any run, and as much is prepared, or less because it is not wanted any more; returns
  /// since when that has been so.
  @discardableResult
  func settle(prepared: Int) async throws -> ContinuousClock.Instant
  /// Takes everything down.
  func close() async
}

/// Runs at once, at most.
let slots = 8

/// One who is not measured, and why.
struct Absentee: Sendable {
  var name: String
  var reason: String
}
