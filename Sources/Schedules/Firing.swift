import FoundationEssentials

/// What becomes of instants at which nobody was there to fire.
public enum MissedRuns: Hashable, Sendable {
  /// Nothing.
  case skip
  /// One run stands for all of them; where an instant is due in time, that one does.
  case coalesce
  /// The latest of them, at most this many, are run each.
  case catchUp(Int)

  /// The most runs that may be caught up with.
  public static let maximumCatchUp = 1_000
}

/// What becomes of a firing while the run before has not ended. The database applies it, since only it knows.
public enum Overlap: String, CaseIterable, Sendable {
  /// It is not enqueued.
  case skip
  /// It is enqueued beside it.
  case queue
  /// The run before is cancelled, and it is enqueued.
  case cancelPrevious = "cancel_previous"
}

/// What is to be done about a schedule at one moment.
///
/// Everything up to `handled` is settled by carrying this out: the same question asked again with it answers nothing.
/// So whoever stores `handled` with the jobs, in one transaction and only over the value that was asked with, fires
/// each instant once.
public struct Firing: Equatable, Sendable {
  /// Instants to fire now, in order.
  public let instants: [Date]
  /// The first and the last instant that will not be run, for the record; nil where all are.
  public let forgone: ClosedRange<Date>?
  /// Up to where everything is settled.
  public let handled: Date
  /// The next instant after it; nil where the schedule has ended.
  public let next: Date?

  public init(instants: [Date], forgone: ClosedRange<Date>?, handled: Date, next: Date?) {
    self.instants = instants
    self.forgone = forgone
    self.handled = handled
    self.next = next
  }
}

extension Schedule {
  /// How late an instant may be noticed and still not be missed. A worker that looks every few seconds, waits for a
  /// database that restarts and begins again is within it.
  public static let defaultTolerance = Duration.seconds(60)

  /// What to fire at `now`.
  ///
  /// - Parameters:
  ///   - handled: up to where everything is settled: the moment the schedule was made, then `Firing.handled`.
  ///   - now: the database's clock. When it is before `handled`, because the clock was set back, nothing fires.
  ///   - tolerance: an instant that is later than this is a missed one; at most an hour counts.
  public func firing(
    handled: Date, now: Date, missed: MissedRuns, tolerance: Duration = defaultTolerance
  ) -> Firing {
    let settled = max(handled, now)
    let next = next(after: settled)
    guard handled < now, let first = self.next(after: handled), first <= now else {
      return Firing(instants: [], forgone: nil, handled: settled, next: next)
    }
    let allowed = min(max(tolerance, .zero), .seconds(3_600)) / .seconds(1)
    // Instants up to here are missed; those after it are in time, with the one that is as late as is allowed.
    let limit = max(handled, now.addingTimeInterval(-allowed - 0.001))
    let inTime = Array(instants(after: limit).prefix { $0 <= now })
    let kept: Int
    switch missed {
    case .skip: kept = 0
    case .coalesce: kept = inTime.isEmpty ? 1 : 0
    case .catchUp(let most): kept = min(max(0, most), MissedRuns.maximumCatchUp)
    }
    // One more tells what is the last that is left out.
    var late = latest(kept + 1, after: handled, through: limit)
    var forgone: ClosedRange<Date>?
    if late.count > kept { forgone = first...late.removeFirst() }
    return Firing(instants: late + inTime, forgone: forgone, handled: settled, next: next)
  }

  /// The last instants in a span, at most `count`, in order. What is looked through doubles until it holds enough, so a
  /// year without a worker costs no year of seconds.
  private func latest(_ count: Int, after start: Date, through end: Date) -> [Date] {
    guard start < end else { return [] }
    var span = 60.0
    while true {
      let from = max(start, end.addingTimeInterval(-span))
      // Only the last ones are kept: a burst at the beginning of the span may be long.
      var found: [Date] = []
      var oldest = 0
      for instant in instants(after: from) {
        if instant > end { break }
        if found.count < count {
          found.append(instant)
        } else {
          found[oldest] = instant
          oldest = (oldest + 1) % count
        }
      }
      if found.count == count || from == start { return Array(found[oldest...] + found[..<oldest]) }
      span *= 2
    }
  }
}
