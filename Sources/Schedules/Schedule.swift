import FoundationEssentials

/// What becomes of a wall time that a jump of the clock leaves out.
public enum GapPolicy: String, CaseIterable, Sendable {
  /// It does not fire that day.
  case skip
  /// It fires at the first instant after the gap; once, however many times the gap holds.
  case after
}

/// What becomes of a wall time that a jump of the clock makes happen twice.
public enum FoldPolicy: String, CaseIterable, Sendable {
  case first
  case second
  case both
}

/// A schedule, or a part of a document of one, is not one that can be kept. One line with the path and what would be
/// right.
public struct ScheduleProblem: Error, Equatable, CustomStringConvertible {
  /// The member of the document at fault, such as `calendar.weekend`.
  public let path: String
  public let what: String

  init(_ path: String, _ what: String) {
    self.path = path
    self.what = what
  }

  public var description: String { "schedule: \(path): \(what)" }
}

/// When something fires: wall times of a zone, less or moved by a calendar, as instants.
///
/// Instants are whole seconds, strictly increasing: two wall times that fall on one instant fire once.
public struct Schedule: Hashable, Sendable {
  public let expression: CronExpression
  public let zone: Zone
  public let gap: GapPolicy
  public let fold: FoldPolicy
  public let calendar: BusinessCalendar?
  /// No instant before this one.
  public let starts: Date?
  /// No instant at or after this one.
  public let ends: Date?

  /// - Parameters:
  ///   - gap: nil is `after` where the expression names hours. Where every hour matches it counts them, and nil is
  ///     `skip`: an hour that is not there is no missed one.
  ///   - fold: nil is `first` where the expression names hours, and otherwise `both`: what runs every five minutes
  ///     shall not rest for an hour once a year.
  /// - Throws: when `ends` is not after `starts`, or when the calendar leaves nothing of the expression.
  public init(
    _ expression: CronExpression, zone: Zone = .utc, gap: GapPolicy? = nil, fold: FoldPolicy? = nil,
    calendar: BusinessCalendar? = nil, starts: Date? = nil, ends: Date? = nil
  ) throws(ScheduleProblem) {
    self.expression = expression
    self.zone = zone
    self.gap = gap ?? (expression.isEveryHour ? .skip : .after)
    self.fold = fold ?? (expression.isEveryHour ? .both : .first)
    self.calendar = calendar
    self.starts = starts
    self.ends = ends
    if let starts, let ends, ends <= starts { throw ScheduleProblem("ends", "is not after starts") }
    if calendar != nil, firstDay(from: CivilDate(dayNumber: 0), in: { days(of: $0) }) == nil {
      throw ScheduleProblem("calendar", "leaves no day on which the expression fires; use another on_holiday")
    }
  }

  /// The first instant after `instant`; nil when there is none before `ends`, within 400 years, or by the year 4970.
  public func next(after instant: Date) -> Date? {
    var instants = instants(after: instant)
    return instants.next()
  }

  /// The first instants after `instant`, at most `limit`.
  public func instants(after instant: Date, limit: Int) -> [Date] {
    Array(instants(after: instant).prefix(limit))
  }

  /// The instants after `instant`, without end where the schedule has none.
  public func instants(after instant: Date) -> ScheduleInstants { ScheduleInstants(self, after: instant) }

  /// The days of a month on which it fires.
  func days(of month: CivilMonth) -> UInt32 {
    calendar?.days(of: month, expression: expression) ?? expression.days(of: month)
  }

  /// The first wall time at or after `wall`, before jumps of the clock are thought of.
  func wallTime(from wall: WallTime) -> WallTime? {
    let today = CivilDate(dayNumber: CivilDate.floored(wall, secondsInDay))
    guard let date = firstDay(from: today, in: { days(of: $0) }) else { return nil }
    if date > today { return expression.time(from: 0).map { date.dayNumber * secondsInDay + $0 } }
    if let time = expression.time(from: wall - today.dayNumber * secondsInDay) {
      return today.dayNumber * secondsInDay + time
    }
    let tomorrow = CivilDate(dayNumber: today.dayNumber + 1)
    guard let later = firstDay(from: tomorrow, in: { days(of: $0) }) else { return nil }
    return expression.time(from: 0).map { later.dayNumber * secondsInDay + $0 }
  }
}
