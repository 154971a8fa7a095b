/// Which days are business days, and what becomes of a run on one that is not.
public struct BusinessCalendar: Hashable, Sendable {
  /// What a schedule does on a day that its expression names and that is no business day.
  public enum NonBusinessDay: String, CaseIterable, Sendable {
    /// It fires as on any day.
    case run
    /// It does not fire.
    case skip
    /// It fires on the next business day at the same wall time; once, however many days are moved there.
    case nextBusinessDay = "next_business_day"
    /// It fires on the business day before at the same wall time; once, however many days are moved there.
    case previousBusinessDay = "previous_business_day"
  }

  public let weekend: Set<Weekday>
  public let holidays: Set<CivilDate>
  public let onNonBusinessDay: NonBusinessDay

  /// More holidays than these are refused: 25 years of two a week.
  public static let maximumHolidays = 2_600

  /// - Parameters:
  ///   - weekend: must leave a business day.
  ///   - holidays: in the schedule's zone; at most `maximumHolidays`.
  public init(
    weekend: Set<Weekday> = [.saturday, .sunday], holidays: Set<CivilDate> = [],
    onNonBusinessDay: NonBusinessDay = .skip
  ) throws(ScheduleProblem) {
    guard weekend.count < 7 else { throw ScheduleProblem("calendar.weekend", "leaves no business day") }
    guard holidays.count <= Self.maximumHolidays else {
      throw ScheduleProblem("calendar.holidays", "has more than \(Self.maximumHolidays) dates")
    }
    self.weekend = weekend
    self.holidays = holidays
    self.onNonBusinessDay = onNonBusinessDay
  }

  public func isBusinessDay(_ date: CivilDate) -> Bool {
    !weekend.contains(date.weekday) && !holidays.contains(date)
  }

  /// The days of a month on which an expression fires under this calendar. A day is looked at together with the days
  /// that are moved to it, so that it does not matter how many there are.
  func days(of month: CivilMonth, expression: CronExpression) -> UInt32 {
    let named = expression.days(of: month)
    if onNonBusinessDay == .run { return named }
    var days: UInt32 = 0
    let first = month.firstDayNumber
    for day in 1...month.length {
      let date = CivilDate(dayNumber: first + day - 1)
      guard isBusinessDay(date) else { continue }
      if named & (1 << UInt32(day)) != 0 || isMovedTo(date, expression) { days |= 1 << UInt32(day) }
    }
    return days
  }

  private func isMovedTo(_ date: CivilDate, _ expression: CronExpression) -> Bool {
    let step: Int
    switch onNonBusinessDay {
    case .run, .skip: return false
    // The days whose next business day is `date` lie before it.
    case .nextBusinessDay: step = -1
    case .previousBusinessDay: step = 1
    }
    var other = CivilDate(dayNumber: date.dayNumber + step)
    while !isBusinessDay(other) {
      if expression.matches(other) { return true }
      other = CivilDate(dayNumber: other.dayNumber + step)
    }
    return false
  }
}
