import Foundation
import Schedules
import Testing

/// An instant from its spelling in UTC.
func at(_ text: String) -> Date { try! Date(text, strategy: .iso8601) }

@Suite("The instants of a schedule")
struct ScheduleTests {
  private func schedule(
    _ cron: String, _ zone: String = "Europe/Zurich", gap: GapPolicy? = nil, fold: FoldPolicy? = nil
  ) throws -> Schedule {
    try Schedule(CronExpression(cron), zone: #require(Zone(zone)), gap: gap, fold: fold)
  }

  private func instants(_ schedule: Schedule, after start: String, _ count: Int) -> [String] {
    schedule.instants(after: at(start), limit: count).map { $0.formatted(.iso8601) }
  }

  @Test("a wall time that is skipped fires after the gap or not")
  func gap() throws {
    // On 29 March 2026 Zurich goes from 02:00 to 03:00.
    let day = "2026-03-28T12:00:00Z"
    #expect(try instants(schedule("30 2 * * *"), after: day, 2) == ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"])
    #expect(try instants(schedule("30 2 * * *", gap: .skip), after: day, 1) == ["2026-03-30T00:30:00Z"])
    // Twelve wall times of the gap, and 03:00 itself, are one instant.
    #expect(
      try instants(schedule("*/5 2,3 * * *"), after: day, 2) == ["2026-03-29T01:00:00Z", "2026-03-29T01:05:00Z"])
  }

  @Test("a wall time that happens twice fires at the first, the second or both")
  func fold() throws {
    // On 25 October 2026 Zurich goes from 03:00 to 02:00.
    let day = "2026-10-24T12:00:00Z"
    let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")
    #expect(try instants(schedule("30 2 * * *"), after: day, 2) == [first, "2026-10-26T01:30:00Z"])
    #expect(try instants(schedule("30 2 * * *", fold: .second), after: day, 2) == [second, "2026-10-26T01:30:00Z"])
    #expect(try instants(schedule("30 2 * * *", fold: .both), after: day, 2) == [first, second])
    // Also where there is nothing else for a year.
    #expect(try instants(schedule("30 2 25 10 *", fold: .second), after: day, 1) == [second])
    #expect(try instants(schedule("30 2 25 10 *", fold: .both), after: day, 2) == [first, second])
    // Asked from between the two.
    #expect(try instants(schedule("30 2 * * *"), after: first, 1) == ["2026-10-26T01:30:00Z"])
    #expect(try instants(schedule("30 2 * * *", fold: .both), after: first, 1) == [second])
  }

  @Test("what runs every hour neither rests nor hurries when clocks change, unless it says so")
  func everyHour() throws {
    let (spring, autumn) = ("2026-03-29T00:07:00Z", "2026-10-24T23:07:00Z")
    #expect(try instants(schedule("7 * * * *"), after: spring, 2) == ["2026-03-29T01:07:00Z", "2026-03-29T02:07:00Z"])
    #expect(
      try instants(schedule("7 * * * *"), after: autumn, 3)
        == ["2026-10-25T00:07:00Z", "2026-10-25T01:07:00Z", "2026-10-25T02:07:00Z"])
    #expect(try instants(schedule("7 * * * *", gap: .after), after: spring, 1) == ["2026-03-29T01:00:00Z"])
    #expect(
      try instants(schedule("7 * * * *", fold: .first), after: autumn, 2)
        == ["2026-10-25T00:07:00Z", "2026-10-25T02:07:00Z"])
  }

  @Test("a jump of half an hour, and one of a whole day")
  func unusual() throws {
    // Lord Howe goes from 02:00 to 02:30 on 4 October 2026.
    #expect(
      try instants(schedule("15 2 * * *", "Australia/Lord_Howe"), after: "2026-10-03T00:00:00Z", 2)
        == ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"])
    // Apia had no 30 December 2011; what was due then is due when the 31st begins.
    #expect(
      try instants(schedule("0 9 * * *", "Pacific/Apia"), after: "2011-12-29T12:00:00Z", 3)
        == ["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"])
  }

  @Test("clocks that go back over midnight mix two dates, and instants stay in order")
  func overMidnight() throws {
    // At 00:01 on 1 November 2009 it became 23:01 on 31 October in St John's, so midnight was before half past eleven.
    let evening = "2009-11-01T01:00:00Z"
    let expected: [FoldPolicy: [String]] = [
      .first: ["01:30", "02:00", "02:30", "04:00"], .second: ["01:30", "03:00", "03:30", "04:00"],
      .both: ["01:30", "02:00", "02:30", "03:00", "03:30", "04:00"],
    ]
    for (fold, times) in expected {
      let schedule = try schedule("0,30 0,23 * * *", "America/St_Johns", fold: fold)
      #expect(instants(schedule, after: evening, times.count) == times.map { "2009-11-01T\($0):00Z" })
    }
  }

  @Test("only zones of the IANA database by their names")
  func zones() {
    for name in ["Europe/Zurich", "America/Argentina/Ushuaia", "UTC", "Etc/UTC"] {
      #expect(Zone(name)?.identifier == name)
    }
    for name in ["", "PST", "GMT+2", "+02:00", "europe/zurich", "Europe/Nowhere", "../../etc/passwd", "/etc/localtime"]
    {
      #expect(Zone(name) == nil, "\(name)")
    }
  }

  @Test("a schedule has a first moment and an end")
  func bounds() throws {
    let bounded = try Schedule(
      CronExpression("0 * * * *"), starts: at("2026-01-01T05:00:00Z"), ends: at("2026-01-01T08:00:00Z"))
    #expect(
      instants(bounded, after: "2020-01-01T00:00:00Z", 10)
        == ["2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z", "2026-01-01T07:00:00Z"])
    #expect(bounded.next(after: at("2026-01-01T07:00:00Z")) == nil)
    // So far away that no zone's law is known.
    let distant = try Schedule(CronExpression("0 * * * *"), starts: at("8210-01-01T00:00:00Z"))
    #expect(distant.next(after: at("2026-01-01T00:00:00Z")) == nil)
    #expect(throws: ScheduleProblem.self) {
      try Schedule(CronExpression("0 * * * *"), starts: at("2026-01-01T05:00:00Z"), ends: at("2026-01-01T05:00:00Z"))
    }
  }

  @Test("a fraction of a second before an instant is before it")
  func fractions() throws {
    let hourly = try Schedule(CronExpression("0 * * * *"))
    let hour = at("2026-01-01T05:00:00Z")
    #expect(hourly.next(after: hour.addingTimeInterval(-0.25)) == hour)
    #expect(hourly.next(after: hour) == hour.addingTimeInterval(3_600))
    #expect(hourly.next(after: hour.addingTimeInterval(0.25)) == hour.addingTimeInterval(3_600))
    // Moments as far away as a Date goes are an answer, or none, but no trap.
    for moment in [
      Date.distantPast, .distantFuture, Date(timeIntervalSince1970: 1e300), Date(timeIntervalSince1970: -1e300),
    ] {
      #expect(hourly.instants(after: moment, limit: 2).allSatisfy { $0 > moment })
    }
  }

  @Test("the rare is found at once, and what never comes is given up")
  func bounded() throws {
    let clock = ContinuousClock()
    var found: [String] = []
    let rare = try clock.measure {
      found = try instants(schedule("0 0 29 2 */7"), after: "2026-01-01T00:00:00Z", 3)
    }
    // A leap day that is a Sunday.
    #expect(found == ["2032-02-28T23:00:00Z", "2060-02-28T23:00:00Z", "2088-02-28T23:00:00Z"])
    #expect(rare < .seconds(1), "\(rare)")
    // The last Sunday of March has no 02:30 in Zurich, in any year from 1996 on.
    let gone = try schedule("30 2 * 3 SUNL", gap: .skip)
    let never = clock.measure {
      #expect(gone.next(after: at("2026-01-01T00:00:00Z")) == nil)
    }
    #expect(never < .seconds(5), "\(never)")
    print("three leap Sundays in \(rare), 400 years for nothing in \(never)")
  }

  // MARK: - Calendars

  private func calendar(
    _ cron: String, _ policy: BusinessCalendar.NonBusinessDay, _ holidays: [String] = []
  ) throws -> Schedule {
    try Schedule(
      CronExpression(cron),
      calendar: BusinessCalendar(holidays: Set(holidays.compactMap { CivilDate($0) }), onNonBusinessDay: policy))
  }

  @Test("a run on a day that is no business day is left out, or moved with all others to one")
  func businessDays() throws {
    // Christmas 2026 is a Friday.
    let day = "2026-12-23T12:00:00Z"
    #expect(
      try instants(calendar("0 9 * * *", .skip, ["2026-12-25"]), after: day, 2)
        == ["2026-12-24T09:00:00Z", "2026-12-28T09:00:00Z"])
    #expect(
      try instants(calendar("0 9,17 25-27 * *", .nextBusinessDay, ["2026-12-25"]), after: day, 3)
        == ["2026-12-28T09:00:00Z", "2026-12-28T17:00:00Z", "2027-01-25T09:00:00Z"])
    #expect(
      try instants(calendar("0 9 25-27 * *", .previousBusinessDay, ["2026-12-25"]), after: day, 1)
        == ["2026-12-24T09:00:00Z"])
    // Over the end of a month, and of a year.
    #expect(
      try instants(calendar("0 9 1 1 *", .previousBusinessDay, ["2027-01-01"]), after: day, 1)
        == ["2026-12-31T09:00:00Z"])
    #expect(try instants(calendar("0 9 31 10 *", .nextBusinessDay), after: day, 2).last == "2028-10-31T09:00:00Z")
    #expect(
      try instants(calendar("0 9 31 10 *", .nextBusinessDay), after: "2026-10-30T12:00:00Z", 1) == [
        "2026-11-02T09:00:00Z"
      ])
  }

  @Test("a calendar that leaves nothing is refused")
  func nothing() {
    #expect(throws: ScheduleProblem.self) { try calendar("0 9 * * SAT", .skip) }
    #expect(throws: ScheduleProblem.self) { try BusinessCalendar(weekend: Set(Weekday.allCases)) }
    #expect(throws: Never.self) { try calendar("0 9 * * SAT", .nextBusinessDay) }
  }
}
