import FoundationEssentials

/// PostgreSQL's ISO text form of points in time, in microseconds: `2026-11-23 16:51:17.123456+00`. Sessions run
/// with `DateStyle = ISO` and `TimeZone = UTC`; other offsets are understood all the same.
enum TimestampText {
  private static let microsecondsPerSecond: Int64 = 1_000_000
  private static let secondsPerDay: Int64 = 86_400
  /// Days from 1970-01-01 to Foundation's reference date, 2001-01-01.
  private static let referenceDays: Int64 = 11_323

  static func encode(_ date: Date) -> String {
    let microseconds = Int64((date.timeIntervalSinceReferenceDate * Double(microsecondsPerSecond)).rounded())
    let (seconds, fraction) = microseconds.flooredDivision(by: microsecondsPerSecond)
    let (days, secondOfDay) = seconds.flooredDivision(by: secondsPerDay)
    let (year, month, day) = civil(days: days + referenceDays)
    let shownYear = year > 0 ? year : 1 - year
    return "\(padded(shownYear, 4))-\(padded(month, 2))-\(padded(day, 2)) "
      + "\(padded(secondOfDay / 3600, 2)):\(padded(secondOfDay / 60 % 60, 2)):\(padded(secondOfDay % 60, 2))"
      + ".\(padded(fraction, 6))+00\(year > 0 ? "" : " BC")"
  }

  /// Nil when the text is no finite point in time in ISO form. A date alone is its midnight in UTC.
  static func decode(_ text: UnsafeBufferPointer<UInt8>) -> Date? {
    var reader = Reader(bytes: text[...])
    guard var year = reader.number(atLeast: 4), reader.take("-"), let month = reader.number(exactly: 2),
      reader.take("-"), let day = reader.number(exactly: 2), (1...12).contains(month), (1...31).contains(day)
    else { return nil }
    var seconds: Int64 = 0
    var fraction: Int64 = 0
    if reader.take(" ") || reader.take("T") {
      if !reader.takeEra() {
        guard let hour = reader.number(exactly: 2), reader.take(":"), let minute = reader.number(exactly: 2),
          reader.take(":"), let second = reader.number(exactly: 2), hour <= 24, minute < 60, second <= 60
        else { return nil }
        seconds = hour * 3600 + minute * 60 + second
        if reader.take(".") {
          guard let digits = reader.fraction() else { return nil }
          fraction = digits
        }
        guard let offset = reader.offset() else { return nil }
        seconds -= offset
        if reader.take(" "), !reader.takeEra() { return nil }
      }
    }
    guard reader.bytes.isEmpty else { return nil }
    if reader.beforeChrist { year = 1 - year }
    let total = (days(year: year, month: month, day: day) - referenceDays) * secondsPerDay + seconds
    return Date(
      timeIntervalSinceReferenceDate:
        Double(total * microsecondsPerSecond + fraction) / Double(microsecondsPerSecond))
  }

  /// Days since 1970-01-01 of a date in the proleptic Gregorian calendar; years are counted from March so that
  /// the leap day is the last.
  private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
    let shifted = month <= 2 ? year - 1 : year
    let (era, yearOfEra) = shifted.flooredDivision(by: 400)
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  private static func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let (era, dayOfEra) = (days + 719_468).flooredDivision(by: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
  }

  private static func padded(_ number: Int64, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  private struct Reader {
    var bytes: Slice<UnsafeBufferPointer<UInt8>>
    var beforeChrist = false

    mutating func take(_ character: Unicode.Scalar) -> Bool {
      guard bytes.first == UInt8(ascii: character) else { return false }
      bytes = bytes.dropFirst()
      return true
    }

    mutating func takeEra() -> Bool {
      guard bytes.elementsEqual("BC".utf8) else { return false }
      bytes = bytes.dropFirst(2)
      beforeChrist = true
      return true
    }

    mutating func digits() -> (value: Int64, count: Int) {
      var value: Int64 = 0
      var count = 0
      while let byte = bytes.first, (0x30...0x39).contains(byte), count < 9 {
        value = value * 10 + Int64(byte - 0x30)
        count += 1
        bytes = bytes.dropFirst()
      }
      return (value, count)
    }

    mutating func number(exactly width: Int) -> Int64? {
      let (value, count) = digits()
      return count == width ? value : nil
    }

    mutating func number(atLeast width: Int) -> Int64? {
      let (value, count) = digits()
      return count >= width ? value : nil
    }

    /// Digits after the point, in microseconds.
    mutating func fraction() -> Int64? {
      var (value, count) = digits()
      guard (1...6).contains(count) else { return nil }
      while count < 6 {
        value *= 10
        count += 1
      }
      return value
    }

    /// `+02`, `-03:30`, `+00:19:32`, or nothing; in seconds east of UTC.
    mutating func offset() -> Int64? {
      let negative = bytes.first == UInt8(ascii: "-")
      guard take("+") || take("-") else { return 0 }
      guard var total = number(exactly: 2).map({ $0 * 3600 }) else { return nil }
      for factor: Int64 in [60, 1] where take(":") {
        guard let part = number(exactly: 2) else { return nil }
        total += part * factor
      }
      return negative ? -total : total
    }
  }
}

extension Int64 {
  fileprivate func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
