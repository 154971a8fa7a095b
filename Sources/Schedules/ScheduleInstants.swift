import FoundationEssentials

/// The instants of a schedule in order.
///
/// It goes along segments of constant offset, where wall times and instants differ by a number. What happens twice or
/// not at all happens at their ends, so no order of wall times has to be put right afterwards: where the clock goes
/// back over midnight, two dates are interleaved.
public struct ScheduleInstants: Sequence, IteratorProtocol, Sendable {
  private let schedule: Schedule
  /// Instants before this one are behind.
  private var cursor: Int
  private var segment: Zone.Segment?
  private let horizon: Int

  /// No offset of a zone is as large, either way.
  private static let maximumOffset = 26 * 3_600
  /// In seconds before and after 1970, 3000 years: nothing is computed beyond, where no law of any zone is known.
  private static let reach = 3_000 * 31_556_952.0

  init(_ schedule: Schedule, after instant: Date) {
    self.schedule = schedule
    var first = instant.timeIntervalSince1970.rounded(.down) + 1
    if let starts = schedule.starts { first = Swift.max(first, starts.timeIntervalSince1970.rounded(.up)) }
    cursor = Int(Swift.min(Swift.max(first, -Self.reach), Self.reach))
    // After 400 years days and weekdays repeat; what has not fired by then never will.
    horizon = first > Self.reach ? cursor : cursor + CivilDate.daysInCycle * secondsInDay
  }

  public mutating func next() -> Date? {
    guard let instant = nextSecond() else { return nil }
    let date = Date(timeIntervalSince1970: Double(instant))
    if let ends = schedule.ends, date >= ends { return nil }
    cursor = instant + 1
    return date
  }

  private mutating func nextSecond() -> Int? {
    while cursor < horizon {
      let current: Zone.Segment
      if let segment, segment.end.map({ cursor < $0 }) ?? true {
        current = segment
      } else {
        current = schedule.zone.segment(containing: cursor)
        segment = current
      }
      if let found = first(in: current) { return found }
      guard let end = current.end,
        let wall = schedule.wallTime(from: end + Swift.min(current.offset, current.offsetAfter))
      else { return nil }
      // Years of segments without a wall time are passed over at once; none fires before `wall` can be anywhere.
      cursor = Swift.max(end, wall - Self.maximumOffset)
    }
    return nil
  }

  private func first(in segment: Zone.Segment) -> Int? {
    var from = cursor + segment.offset
    if let start = segment.start {
      let (before, now) = (start + segment.offsetBefore, start + segment.offset)
      if schedule.gap == .after, before < now, cursor == start, let wall = schedule.wallTime(from: before), wall < now {
        return start
      }
      // Wall times before `before` have been in the last segment.
      if schedule.fold == .first { from = Swift.max(from, before) }
    }
    guard let wall = schedule.wallTime(from: from) else { return nil }
    if let end = segment.end {
      // Wall times from here on are in the next segment once more.
      let returning = schedule.fold == .second ? Swift.min(segment.offset, segment.offsetAfter) : segment.offset
      if wall >= end + returning { return nil }
    }
    return wall - segment.offset
  }
}
