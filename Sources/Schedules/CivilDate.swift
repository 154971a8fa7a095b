/// A date of the proleptic Gregorian calendar without a zone: what a wall calendar shows.
public struct CivilDate: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// Days since 1970-01-01, which is 0.
  public let dayNumber: Int

  public init(dayNumber: Int) {
    self.dayNumber = dayNumber
  }

  /// Nil for a date that no calendar has, such as 30 February.
  public init?(year: Int, month: Int, day: Int) {
    guard (1...12).contains(month), (1...Self.length(ofMonth: month, year: year)).contains(day) else { return nil }
    self.init(dayNumber: Self.dayNumber(year: year, month: month, day: day))
  }

  /// Nil unless the text is a date as `2026-12-25`.
  public init?(_ text: String) {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.map(\.utf8.count) == [4, 2, 2], parts.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }),
      let year = Int(parts[0]), let month = Int(parts[1]), let day = Int(parts[2])
    else { return nil }
    self.init(year: year, month: month, day: day)
  }

  public var weekday: Weekday { Weekday(rawValue: Self.modulo(dayNumber + 4, 7))! }

  /// `2026-12-25`
  public var description: String {
    let (year, month, day) = components
    let pad = { (number: Int, width: Int) in
      String(repeating: "0", count: max(0, width - "\(number)".count)) + "\(number)"
    }
    return "\(pad(year, 4))-\(pad(month, 2))-\(pad(day, 2))"
  }

  /// Counts in eras of 400 years, after which the calendar repeats, with years that begin on 1 March, so that the leap
  /// day comes last (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
  var components: (year: Int, month: Int, day: Int) {
    let shifted = dayNumber + 719_468
    let era = Self.floored(shifted, Self.daysInCycle)
    let dayOfEra = shifted - era * Self.daysInCycle
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return (
      yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    )
  }

  /// The length of 400 years in days: whole weeks, so weekdays repeat with it too.
  static let daysInCycle = 146_097

  static func dayNumber(year: Int, month: Int, day: Int) -> Int {
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = floored(shiftedYear, 400)
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * daysInCycle + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  static func length(ofMonth month: Int, year: Int) -> Int {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  static func floored(_ value: Int, _ divisor: Int) -> Int {
    value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor)
  }

  static func modulo(_ value: Int, _ divisor: Int) -> Int { value - floored(value, divisor) * divisor }

  public static func < (left: CivilDate, right: CivilDate) -> Bool { left.dayNumber < right.dayNumber }
}

/// A day of the week; Sunday is 0, as in crontab(5).
public enum Weekday: Int, CaseIterable, Sendable {
  case sunday, monday, tuesday, wednesday, thursday, friday, saturday

  /// `sun`, `mon`, …
  public var abbreviation: String { Self.abbreviations[rawValue] }

  /// Nil unless the text is one of the abbreviations, in any case.
  public init?(abbreviation: String) {
    guard let index = Self.abbreviations.firstIndex(of: abbreviation.lowercased()) else { return nil }
    self.init(rawValue: index)
  }

  static let abbreviations = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
}
