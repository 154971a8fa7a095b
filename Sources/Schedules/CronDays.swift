/// The day-of-month field.
struct DaysOfMonth: Hashable, Sendable {
  var numbers = CronNumbers()
  /// Days before the last of the month: `L` is 0, `L-3` is 3.
  var beforeLast = CronNumbers()
  /// Days whose nearest weekday of the same month is meant: `15W`.
  var nearestWeekday = CronNumbers()
  /// `LW`: the last weekday of the month.
  var lastWeekday = false
  /// Whether the field's text begins with `*` (or is `?`), which is what crontab(5) calls not restricted.
  var isOpen = false

  init(_ text: Substring) throws(CronProblem) {
    let reader = CronItemReader(field: .dayOfMonth)
    isOpen = text == "?" || text.first == "*"
    if text == "?" {
      numbers.bits = .max
      return
    }
    for item in text.split(separator: ",", omittingEmptySubsequences: false) {
      let upper = item.uppercased()
      if upper == "L" {
        beforeLast.insert(0)
      } else if upper == "LW" || upper == "WL" {
        lastWeekday = true
      } else if upper.hasPrefix("L-") {
        guard let days = Int(upper.dropFirst(2)), (1...30).contains(days) else {
          throw CronProblem(.dayOfMonth, "'\(item)' is unknown; use L-1 to L-30")
        }
        beforeLast.insert(days)
      } else if upper.hasSuffix("W") {
        nearestWeekday.insert(try reader.number(item.dropLast()))
      } else {
        try reader.read(item, into: &numbers)
      }
    }
  }

  func days(of month: CivilMonth) -> UInt32 {
    let length = month.length
    var days = UInt32(truncatingIfNeeded: numbers.bits)
    var number = 0
    while let found = beforeLast.first(from: number) {
      if found < length { days |= 1 << UInt32(length - found) }
      number = found + 1
    }
    number = 0
    while let found = nearestWeekday.first(from: number) {
      if found <= length { days |= 1 << UInt32(Self.nearestWeekday(to: found, in: month)) }
      number = found + 1
    }
    if lastWeekday { days |= 1 << UInt32(Self.nearestWeekday(to: length, in: month)) }
    return days & month.allDays
  }

  /// Saturdays go to the Friday before and Sundays to the Monday after, but never into another month.
  private static func nearestWeekday(to day: Int, in month: CivilMonth) -> Int {
    switch month.weekday(of: day) {
    case 6: day > 1 ? day - 1 : day + 2
    case 0: day < month.length ? day + 1 : day - 2
    default: day
    }
  }
}

/// The day-of-week field.
struct DaysOfWeek: Hashable, Sendable {
  var numbers = CronNumbers()
  /// `MON#2`: bit 8 × weekday + n.
  var nth = CronNumbers()
  /// `FRIL` or `L5`: the last such day of the month.
  var last = CronNumbers()
  /// As `DaysOfMonth.isOpen`.
  var isOpen = false

  init(_ text: Substring) throws(CronProblem) {
    let reader = CronItemReader(field: .dayOfWeek)
    isOpen = text == "?" || text.first == "*"
    if text == "?" {
      numbers.bits = 0x7F
      return
    }
    for item in text.split(separator: ",", omittingEmptySubsequences: false) {
      if let mark = item.firstIndex(of: "#") {
        guard let count = Int(item[item.index(after: mark)...]), (1...5).contains(count) else {
          throw CronProblem(.dayOfWeek, "'\(item)' is unknown; use MON#1 to MON#5")
        }
        nth.insert(8 * (try reader.number(item[..<mark]) % 7) + count)
      } else if item.uppercased() == "L" {
        throw CronProblem(.dayOfWeek, "'\(item)' needs a day; use FRIL for the last Friday of the month")
      } else if item.uppercased().hasSuffix("L") {
        last.insert(try reader.number(item.dropLast()) % 7)
      } else if item.uppercased().hasPrefix("L") {
        last.insert(try reader.number(item.dropFirst()) % 7)
      } else {
        try reader.read(item, into: &numbers)
      }
    }
  }

  func days(of month: CivilMonth) -> UInt32 {
    let length = month.length
    var weekday = month.weekday(of: 1)
    var days: UInt32 = 0
    for day in 1...length {
      if numbers.contains(weekday) || nth.contains(8 * weekday + (day + 6) / 7)
        || (day + 7 > length && last.contains(weekday))
      {
        days |= 1 << UInt32(day)
      }
      weekday = weekday == 6 ? 0 : weekday + 1
    }
    return days
  }
}
