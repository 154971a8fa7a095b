import Schedules
import Testing

@Suite("Cron expressions")
struct CronExpressionTests {
  @Test(
    "what is wrong is said with its field and what would be right",
    arguments: [
      ("61 * * * *", CronField.minute, "61 is out of range; use 0 to 59"),
      ("* 24 * * *", .hour, "24 is out of range; use 0 to 23"),
      ("* * 0 * *", .dayOfMonth, "0 is out of range; use 1 to 31"),
      ("* * * 13 *", .month, "13 is out of range; use 1 to 12"),
      ("* * * * 8", .dayOfWeek, "8 is out of range; use 0 to 7"),
      ("60 * * * * *", .second, "60 is out of range; use 0 to 59"),
      ("* * * FOO *", .month, "'FOO' is unknown; use 1 to 12 or JAN to DEC"),
      ("* * * * MO", .dayOfWeek, "'MO' is unknown; use 0 to 7 or SUN to SAT"),
      ("*/0 * * * *", .minute, "the step '0' is not one of 1 to 59"),
      ("*/60 * * * *", .minute, "the step '60' is not one of 1 to 59"),
      ("*/ * * * *", .minute, "the step '' is not one of"), ("1/2/3 * * * *", .minute, "the step '2/3'"),
      ("-5 * * * *", .minute, "a number is missing"), ("1, * * * *", .minute, "a number is missing"),
      ("1- * * * *", .minute, "a number is missing"), ("+1 * * * *", .minute, "'+1' is unknown"),
      ("1-2-3 * * * *", .minute, "'2-3' is unknown"), ("? * * * *", .minute, "'?' is unknown"),
      ("0x1 * * * *", .minute, "'0x1' is unknown"), ("١ * * * *", .minute, "'١' is unknown"),
      ("0 22-2 * * *", .hour, "'22-2' runs backwards; use 22-23,0-2"),
      ("0 5-0 * * *", .hour, "'5-0' runs backwards; use 5-23,0"),
      ("0 0 20-5 * *", .dayOfMonth, "'20-5' runs backwards; use 20-31,1-5"),
      ("0 0 L-31 * *", .dayOfMonth, "'L-31' is unknown; use L-1 to L-30"), ("0 0 32W * *", .dayOfMonth, "32 is out of"),
      ("0 0 1-5W * *", .dayOfMonth, "'1-5' is unknown"), ("0 0 1,? * *", .dayOfMonth, "'?' is unknown"),
      ("0 0 * * L", .dayOfWeek, "'L' needs a day; use FRIL"),
      ("0 0 * * MON#6", .dayOfWeek, "'MON#6' is unknown; use MON#1"),
      ("0 0 * * MON#", .dayOfWeek, "'MON#' is unknown"), ("0 0 * * #2", .dayOfWeek, "a number is missing"),
      ("0 0 30 2 *", .dayOfMonth, "no such day ever comes"),
      ("0 0 31 4,6,9,11 *", .dayOfMonth, "no such day ever comes"),
      ("0 0 30 FEB */2", .dayOfMonth, "no such day ever comes"),
      ("0 0 L-30 2,4 *", .dayOfMonth, "no such day ever comes"),
    ])
  func refused(text: String, field: CronField, what: String) {
    let problem = #expect(throws: CronProblem.self) { try CronExpression(text) }
    #expect(problem?.field == field)
    #expect(problem?.what.hasPrefix(what) == true, "\(problem as Any)")
    #expect(problem?.description.contains("\n") == false)
  }

  @Test(
    "an expression that is none as a whole",
    arguments: [
      ("", "has 0 fields"), ("* * * *", "has 4 fields"), ("* * * * * * *", "has 7 fields"), ("@reboot", "'@reboot'"),
      ("@daily 5", "'@daily 5'"), ("* * * * * " + String(repeating: "1", count: 1_000), "is longer than"),
    ])
  func noExpression(text: String, what: String) {
    let problem = #expect(throws: CronProblem.self) { try CronExpression(text) }
    #expect(problem?.field == nil && problem?.what.hasPrefix(what) == true, "\(problem as Any)")
  }

  /// The days of a month that match, in order.
  private func days(_ text: String, _ year: Int, _ month: Int) throws -> [Int] {
    let expression = try CronExpression(text)
    return (1...31).filter { CivilDate(year: year, month: month, day: $0).map(expression.matches) == true }
  }

  @Test("days of month that count from its end or look for a weekday")
  func daysOfMonth() throws {
    #expect(try days("0 0 L * *", 2024, 2) == [29] && days("0 0 L * *", 2025, 2) == [28])
    #expect(try days("0 0 L-3,l * *", 2026, 4) == [27, 30])
    // May 2026 ends on a Sunday, August begins on a Saturday.
    #expect(try days("0 0 LW * *", 2026, 5) == [29] && days("0 0 1W * *", 2026, 8) == [3])
    #expect(try days("0 0 15W * *", 2026, 8) == [14] && days("0 0 16W * *", 2026, 8) == [17])
    // As the 31st itself, its weekday is in months that have one.
    #expect(try days("0 0 31W * *", 2026, 6) == [] && days("0 0 31W * *", 2026, 5) == [29])
  }

  @Test("days of week by name, by number and by their place in the month")
  func daysOfWeek() throws {
    // October 2026 begins on a Thursday.
    #expect(try days("0 0 * * 0", 2026, 10) == days("0 0 * * 7", 2026, 10))
    #expect(try days("0 0 * * sun", 2026, 10) == [4, 11, 18, 25])
    #expect(try days("0 0 * * FRI-SUN", 2026, 10) == days("0 0 * * 5-7", 2026, 10))
    #expect(try days("0 0 * * SAT-MON", 2026, 10) == days("0 0 * * 6,0,1", 2026, 10))
    #expect(try days("0 0 * * 7-1", 2026, 10) == days("0 0 * * 0,1", 2026, 10))
    #expect(try days("0 0 * * MON#2", 2026, 10) == [12] && days("0 0 * * MON#5", 2026, 10) == [])
    #expect(try days("0 0 * * FRIL", 2026, 10) == [30] && days("0 0 * * L5,0#1", 2026, 10) == [4, 30])
    #expect(try days("0 0 * * */2", 2026, 10) == days("0 0 * * 0,2,4,6", 2026, 10))
  }

  @Test("either day matches where both are restricted, both must where one begins with *")
  func vixie() throws {
    #expect(try days("0 0 13 * FRI", 2026, 10) == [2, 9, 13, 16, 23, 30])
    #expect(try days("0 0 */2 * MON", 2026, 10) == [5, 19] && days("0 0 1-7 * */7", 2026, 10) == [4])
    #expect(try days("0 0 ? * MON", 2026, 10) == [5, 12, 19, 26] && days("0 0 13 * ?", 2026, 10) == [13])
    #expect(try days("0 0 31 2 MON", 2026, 2) == [2, 9, 16, 23])
  }

  @Test("what is written with other spaces or cases is kept with single ones")
  func description() throws {
    #expect(try CronExpression(" 0\t 9  * jan-mar Mon ").description == "0 9 * jan-mar Mon")
    #expect(try CronExpression("@Hourly").isEveryHour && CronExpression("5 0-23 * * *").isEveryHour)
    #expect(try !CronExpression("@daily").isEveryHour && !CronExpression("0 */2 * * *").isEveryHour)
  }

  @Test("dates are read strictly and written as they were")
  func dates() {
    for text in ["1969-12-31", "1970-01-01", "2000-02-29", "2026-12-25", "0001-01-01", "9999-12-31"] {
      #expect(CivilDate(text)?.description == text)
    }
    for text in [
      "2025-02-29", "2026-13-01", "2026-00-01", "2026-1-01", "26-01-01", "2026-01-01Z", "+026-01-01", "", "---",
    ] {
      #expect(CivilDate(text) == nil)
    }
    #expect(CivilDate("1970-01-01")?.weekday == .thursday && CivilDate("1899-12-31")?.weekday == .sunday)
  }
}
