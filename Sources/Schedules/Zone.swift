import Foundation

/// A time zone of the IANA database, as lines of constant offset with jumps between them.
public struct Zone: Hashable, Sendable {
  /// As it was given: `Europe/Zurich`.
  public let identifier: String
  private let timeZone: TimeZone

  public static let utc = Zone("UTC")!

  /// Nil unless this host's Foundation knows the identifier, in its own spelling. Foundation also takes abbreviations
  /// (`PST`) and offsets (`GMT+2`) for zones; the first mean several, and neither knows daylight saving time.
  public init?(_ identifier: String) {
    guard let timeZone = TimeZone(identifier: identifier),
      identifier == "UTC" || (identifier.contains("/") && timeZone.identifier == identifier)
    else { return nil }
    self.identifier = identifier
    self.timeZone = timeZone
  }

  /// The wall clock at an instant with its offset from UTC and its day of the week: `Sun 2026-03-29T03:00:00+02:00`.
  public func text(of instant: Date) -> String {
    let offset = timeZone.secondsFromGMT(for: instant)
    let date = CivilDate(
      dayNumber: CivilDate.floored(Int(instant.timeIntervalSince1970.rounded(.down)) + offset, secondsInDay))
    let clock = instant.formatted(Date.ISO8601FormatStyle(timeZoneSeparator: .colon, timeZone: timeZone))
    return "\(date.weekday.abbreviation.capitalized) \(clock)"
  }

  /// Instants from one jump of the offset to the next.
  struct Segment {
    /// The instant of the jump before; nil where there was none in the last two days, which is all that matters to
    /// what wall times the segment shares with the one before.
    var start: Int?
    var offsetBefore: Int
    /// Seconds east of Greenwich.
    var offset: Int
    /// The instant of the next jump, which is no longer part of it; nil for ever.
    var end: Int?
    var offsetAfter: Int
  }

  func segment(containing instant: Int) -> Segment {
    let offset = offset(at: instant)
    var start: Int?
    var end = jump(after: instant - 2 * secondsInDay)
    while let found = end, found <= instant {
      start = found
      end = jump(after: found)
    }
    return Segment(
      start: start, offsetBefore: start.map { self.offset(at: $0 - 1) } ?? offset, offset: offset, end: end,
      offsetAfter: end.map { self.offset(at: $0) } ?? offset)
  }

  private func offset(at instant: Int) -> Int {
    timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(instant)))
  }

  /// The next instant with another offset than the second before it. What Foundation lists are also changes of the
  /// name or of what counts as standard time.
  private func jump(after instant: Int) -> Int? {
    var date = Date(timeIntervalSince1970: Double(instant))
    while let next = timeZone.nextDaylightSavingTimeTransition(after: date), next > date {
      let found = Int(next.timeIntervalSince1970)
      if offset(at: found) != offset(at: found - 1) { return found }
      date = next
    }
    return nil
  }
}
