import Foundation
import Logging
import Schedules
import Store

/// A worker's part in schedules: it looks which are due, computes what that means and hands it in. All workers do the same;
/// the database lets one of them have each turn, and tells the others nothing happened.
struct ScheduleFiring: Sendable {
  let store: Store
  let logger: Logger

  /// How long a worker waits at most until it looks again: a schedule set meanwhile is seen by then.
  static let longestPause = Duration.seconds(5)
  /// How many it looks at before it lets others have a turn.
  private static let batch = 50

  /// Fires what is due and says how long to wait until something is.
  func fireDue() async throws -> Duration {
    let due = try await store.dueSchedules(limit: Self.batch)
    // What was not fired is due at once again: another worker has it, or an open transaction of whoever changes it.
    var least = Duration.zero
    for schedule in due {
      // One that the database refuses must not keep the others from firing.
      do {
        if try await !fire(schedule) { least = max(least, .milliseconds(250)) }
      } catch is CancellationError {
        throw CancellationError()
      } catch {
        least = max(least, .seconds(1))
        logger.warning("schedule failed", metadata: ["schedule": "\(schedule.name)", "error": "\(error)"])
      }
    }
    guard let seconds = try await store.scheduleDueIn() else { return Self.longestPause }
    return max(least, Self.pause(dueIn: seconds))
  }

  /// The pause before the next look: until just after the next instant, so that the clock of the database has passed it.
  static func pause(dueIn seconds: Double) -> Duration {
    min(longestPause, .milliseconds(Int64((max(0, min(seconds, 60)) * 1_000).rounded(.up)) + 20))
  }

  /// False when somebody else has this turn.
  private func fire(_ due: Store.DueSchedule) async throws -> Bool {
    let firing: Firing
    do {
      let document = try ScheduleDocument(due.document)
      firing = document.schedule.firing(handled: due.handledAt, now: due.now, missed: document.missed)
    } catch {
      logger.warning("schedule cannot be used", metadata: ["schedule": "\(due.name)", "error": "\(error)"])
      try await store.breakSchedule(due, problem: error.description)
      return true
    }
    guard let jobs = try await store.fire(due, firing) else { return false }
    guard !firing.instants.isEmpty else { return true }
    logger.info(
      "schedule fired",
      metadata: [
        "schedule": "\(due.name)", "tenant": "\(due.tenant)", "due": "\(firing.instants.count)",
        "jobs": "\(jobs.count)",
      ])
    return true
  }
}
