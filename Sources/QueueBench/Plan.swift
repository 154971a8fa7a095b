/// How much is measured.
struct Plan: Sendable {
  /// Rounds of each scenario; of their figures the medians count.
  var rounds: Int
  /// Jobs that wait before a drain. A contender that does not get through them in time is measured by what it got done.
  var jobs: Int
  var seconds: Double
  var pickups: Int
  /// Finished jobs that are kept while others are drained.
  var retained: Int
  /// Jobs that wait in the scenario of lanes, and in how many.
  var waiting: Int
  var lanes: Int
  /// How long producers enqueue against a worker that is told and one that is not.
  var producing: Double
  /// Jobs that run in cells.
  var sandboxed: Int

  static let full = Plan(
    rounds: 5, jobs: 200_000, seconds: 20, pickups: 500, retained: 5_000_000, waiting: 1_000_000, lanes: 1_000,
    producing: 10, sandboxed: 2_000)
  /// A look in a few minutes. The figures of what only shows in large tables say little.
  static let quick = Plan(
    rounds: 3, jobs: 20_000, seconds: 4, pickups: 60, retained: 200_000, waiting: 50_000, lanes: 100, producing: 3,
    sandboxed: 1000)

  var text: String {
    "\(rounds) rounds; \(jobs) jobs a drain, or \(Int(seconds)) s; \(pickups) pickups; \(retained) finished jobs kept; "
      + "\(waiting) waiting in \(lanes) lanes; \(sandboxed) jobs in cells"
  }
}
