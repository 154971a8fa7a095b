/// A month of a year. Sets of its days are bits of a UInt32, the first of the month being bit 1.
struct CivilMonth: Equatable {
  var year: Int
  /// 1 to 12.
  var month: Int

  init(year: Int, month: Int) {
    self.year = year
    self.month = month
  }

  init(of date: CivilDate) {
    let (year, month, _) = date.components
    self.init(year: year, month: month)
  }

  var length: Int { CivilDate.length(ofMonth: month, year: year) }

  var allDays: UInt32 { (UInt32.max >> (31 - UInt32(length))) & ~1 }

  var firstDayNumber: Int { CivilDate.dayNumber(year: year, month: month, day: 1) }

  var following: CivilMonth {
    month == 12 ? CivilMonth(year: year + 1, month: 1) : CivilMonth(year: year, month: month + 1)
  }

  /// The weekday of a day of this month, which may also be 0 (the day before) or past the end.
  func weekday(of day: Int) -> Int { CivilDate(dayNumber: firstDayNumber + day - 1).weekday.rawValue }
}

/// A wall clock without a zone: seconds since 1970-01-01 00:00 as if every day had 86400 of them. Both `WallTime` and
/// instants are counts of seconds; the zone's offset is the difference.
typealias WallTime = Int

let secondsInDay = 86_400
