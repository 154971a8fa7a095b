/// Which wall times a schedule names, as crontab(5) writes them: minute, hour, day of month, month, day of week, with
/// seconds in front where there are six fields.
///
/// Where neither the day of month nor the day of week begins with `*`, a day matches when either does, as in every
/// cron since Vixie's; otherwise it must match both. `*/2` begins with `*`, so `0 0 */2 * MON` is the Mondays that
/// have an odd date.
public struct CronExpression: Hashable, Sendable, CustomStringConvertible {
  /// The expression as it was written, with single spaces.
  public let description: String
  private let seconds: CronNumbers
  private let minutes: CronNumbers
  private let hours: CronNumbers
  private let daysOfMonth: DaysOfMonth
  private let months: CronNumbers
  private let daysOfWeek: DaysOfWeek

  /// Names for common expressions; midnight is where they begin.
  public static let macros = [
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
  ]

  /// The longest text that is read, in bytes of UTF-8.
  public static let maximumLength = 1_000

  /// An expression that no day can match, such as one for 30 February, is a problem too.
  public init(_ text: String) throws(CronProblem) {
    guard text.utf8.count <= Self.maximumLength else {
      throw CronProblem(nil, "is longer than \(Self.maximumLength) bytes")
    }
    let given = text.split(separator: " ").flatMap { $0.split(separator: "\t") }
    description = given.joined(separator: " ")
    var fields = given
    if let name = given.first, name.hasPrefix("@") {
      guard given.count == 1, let meaning = Self.macros[name.lowercased()] else {
        let names = Self.macros.keys.sorted().joined(separator: ", ")
        throw CronProblem(nil, "'\(description)' is unknown; there are \(names)")
      }
      fields = meaning.split(separator: " ")
    }
    guard fields.count == 5 || fields.count == 6 else {
      throw CronProblem(
        nil, "has \(fields.count) fields; use 5 (minute hour day-of-month month day-of-week) or 6 with seconds first")
    }
    seconds = try fields.count == 6 ? Self.numbers(.second, fields[0]) : CronNumbers(bits: 1)
    fields = fields.suffix(5)
    minutes = try Self.numbers(.minute, fields[0])
    hours = try Self.numbers(.hour, fields[1])
    daysOfMonth = try DaysOfMonth(fields[2])
    months = try Self.numbers(.month, fields[3])
    daysOfWeek = try DaysOfWeek(fields[4])
    guard firstDay(from: CivilDate(dayNumber: 0), in: { days(of: $0) }) != nil else {
      throw CronProblem(.dayOfMonth, "no such day ever comes; use one that the months of the expression have")
    }
  }

  private static func numbers(_ field: CronField, _ text: Substring) throws(CronProblem) -> CronNumbers {
    let reader = CronItemReader(field: field)
    var numbers = CronNumbers()
    for item in text.split(separator: ",", omittingEmptySubsequences: false) { try reader.read(item, into: &numbers) }
    return numbers
  }

  /// Whether the expression counts hours instead of naming some: each of the 24 matches.
  public var isEveryHour: Bool { hours.isSuperset(of: CronField.hour.bounds) }

  /// Whether the expression names a time on this day.
  public func matches(_ date: CivilDate) -> Bool {
    days(of: CivilMonth(of: date)) & (1 << UInt32(date.components.day)) != 0
  }

  /// The days of a month on which the expression names a time.
  func days(of month: CivilMonth) -> UInt32 {
    guard months.contains(month.month) else { return 0 }
    let ofMonth = daysOfMonth.days(of: month)
    // What is written most often is not looked at day by day.
    let ofWeek = daysOfWeek.numbers.bits == 0x7F ? month.allDays : daysOfWeek.days(of: month)
    return daysOfMonth.isOpen || daysOfWeek.isOpen ? ofMonth & ofWeek : ofMonth | ofWeek
  }

  /// The first time of any day at or after `second`, a second of the day from 0; nil when the day has no more.
  func time(from second: Int) -> Int? {
    guard second < secondsInDay else { return nil }
    let (hour, minute) = (second / 3_600, second / 60 % 60)
    if hours.contains(hour) {
      if minutes.contains(minute), let found = seconds.first(from: second % 60) {
        return hour * 3_600 + minute * 60 + found
      }
      if let minute = minutes.first(from: minute + 1) { return hour * 3_600 + minute * 60 + firstSecond }
    }
    guard let hour = hours.first(from: hour + 1), let minute = minutes.first(from: 0) else { return nil }
    return hour * 3_600 + minute * 60 + firstSecond
  }

  private var firstSecond: Int { seconds.first(from: 0) ?? 0 }
}

/// The first day at or after `date` that is in the set of its month, within the 400 years after which months repeat.
func firstDay(from date: CivilDate, in days: (CivilMonth) -> UInt32) -> CivilDate? {
  var month = CivilMonth(of: date)
  var candidates = days(month) & (UInt32.max << UInt32(date.components.day))
  for _ in 0...(400 * 12) {
    if candidates != 0 {
      return CivilDate(dayNumber: month.firstDayNumber + candidates.trailingZeroBitCount - 1)
    }
    month = month.following
    candidates = days(month)
  }
  return nil
}
