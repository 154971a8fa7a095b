import Foundation
import Schedules
import TestKit
import Testing

/// croniter's own rules about daylight saving time are others than the policies here, so it is asked for wall times
/// without a zone only; what becomes of them in a zone is asked of zoneinfo. zoneinfo reads the host's zone files and
/// Foundation what it was built with; where the two are of different years, a zone whose law has changed differs.
///
/// Two expressions are not asked for, because croniter means something else: `31W`, which it takes for the end of a
/// shorter month, and `MON#2` together with a day of month, which it takes to want both.
@Suite("Against croniter and zoneinfo")
struct ReferenceTests {
  private struct NextQuestion: Encodable {
    var ask = "next"
    var cron: String
    var after: Int
    var count: Int
  }

  private struct ZoneQuestion: Encodable {
    var ask: String
    var cron: String
    var zone: String
    var gap: String?
    var fold: String?
    var from: Int
    var until: Int
  }

  private struct Window: Decodable {
    var gap: String
    var fold: String
    var from: Int
    var until: Int
    var instants: [Int]
  }

  private struct CalendarQuestion: Encodable {
    var ask = "calendar"
    var cron: String
    var weekend: [Int]
    var holidays: [String]
    var onHoliday: String
    var from: Int
    var until: Int

    enum CodingKeys: String, CodingKey {
      case ask, cron, weekend, holidays
      case onHoliday = "on_holiday"
      case from, until
    }
  }

  static let zones = [
    "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo",
    "Africa/Casablanca", "Pacific/Apia", "America/St_Johns", "UTC",
  ]

  private static func instant(_ year: Int, _ month: Int = 1, _ day: Int = 1) -> Int {
    CivilDate(year: year, month: month, day: day)!.dayNumber * 86_400
  }

  private static func seconds(_ schedule: Schedule, from: Int, until: Int) -> [Int] {
    var found: [Int] = []
    for instant in schedule.instants(after: Date(timeIntervalSince1970: Double(from - 1))) {
      let second = Int(instant.timeIntervalSince1970)
      if second >= until { break }
      found.append(second)
    }
    return found
  }

  // MARK: - Expressions

  private static let written = [
    "* * * * *", "*/5 * * * *", "0 9 * * 1-5", "0 0 1 * *", "0 0 13 * FRI", "0 0 */2 * MON", "0 0 1-7 * */2",
    "30 4 1,15 * 5", "0 0 29 2 *", "0 0 31 * *", "0 12 L * *", "0 12 L * FRI", "0 8 * * MON#2", "0 8 * * 5#5",
    "0 8 * * L5", "15 10 15W * *", "0 0 1W * *", "5/15 * * * *", "0 22-23,0-2 * * *", "0 0 * JAN,JUL SUN",
    "0 0 ? * WED", "0 0 10 * ?", "0 0 * * 7", "0 0 * * 0,7", "0 0 * * 5-7", "*/7 */5 */9 */2 *", "59 23 31 12 *",
    "*/10 * * * * *", "5,10,40 30 12 * * *", "0 0 0 29 2 *", "59 59 23 L * *", "7/20 */15 9-17 * 3-9/2 1-5",
    "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@midnight", "@annually", "0 0 29 2 */7",
  ]

  private static func generated(_ count: Int) -> [String] {
    var random = Seeded(2_026)
    func field(_ bounds: ClosedRange<Int>, open: Int) -> String {
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<open: return "*"
      case open..<(open + 2): return "\(Int.random(in: bounds, using: &random))"
      case open + 2:
        return "*/\(Int.random(in: 1...max(2, bounds.upperBound / 2), using: &random))"
      case open + 3:
        let first = Int.random(in: bounds, using: &random)
        let last = Int.random(in: first...bounds.upperBound, using: &random)
        return first == last ? "\(first)" : "\(first)-\(last)/\(Int.random(in: 1...4, using: &random))"
      default:
        return (0...Int.random(in: 1...3, using: &random)).map { _ in "\(Int.random(in: bounds, using: &random))" }
          .joined(separator: ",")
      }
    }
    return (0..<count).map { _ in
      var fields = [
        field(0...59, open: 2), field(0...23, open: 4), field(1...31, open: 4), field(1...12, open: 5),
        field(0...6, open: 4),
      ]
      if Bool.random(using: &random) { fields.insert(field(0...59, open: 1), at: 0) }
      return fields.joined(separator: " ")
    }
  }

  @Test("wall times of written and generated expressions, from several years")
  func wallTimes() throws {
    var questions: [NextQuestion] = []
    for (index, cron) in (Self.written + Self.generated(500)).enumerated() {
      // What no day has is refused here and found out after a hundred years there.
      guard (try? CronExpression(cron)) != nil else { continue }
      let starts = [Self.instant(1999, 12, 31) + 86_399, Self.instant(2023, 2, 27) + 3_723, Self.instant(2027, 10, 5)]
      for start in index < Self.written.count ? starts : [starts[index % 3]] {
        questions.append(NextQuestion(cron: cron, after: start + index * 7_919, count: 12))
      }
    }
    let answers = try Reference(of: "SchedulesTests").ask(questions, as: [Int].self)
    #expect(answers.count == questions.count && questions.count > 550)
    for (question, answer) in zip(questions, answers) {
      let found = try Schedule(CronExpression(question.cron))
        .instants(after: Date(timeIntervalSince1970: Double(question.after)), limit: question.count)
      #expect(found.map { Int($0.timeIntervalSince1970) } == answer, "\(question.cron) after \(question.after)")
    }
    print("\(questions.count) questions about wall times, \(answers.joined().count) wall times")
  }

  @Test("every gap and fold policy around each jump of a zone in 18 years")
  func jumps() throws {
    let expressions = ["*/30 0-4,23 * * *", "20 15 2 * * *", "0 0 * * *", "59 23 * * 0,3-6"]
    var questions: [ZoneQuestion] = []
    for zone in Self.zones {
      // The last jump of Kathmandu was in 1986.
      let from = Self.instant(zone == "Asia/Kathmandu" ? 1_985 : 2_010)
      for cron in expressions {
        questions.append(
          ZoneQuestion(ask: "windows", cron: cron, zone: zone, from: from, until: Self.instant(2_028)))
      }
    }
    let answers = try Reference(of: "SchedulesTests").ask(questions, as: [Window].self)
    var windows = 0
    var instants = 0
    for (question, answer) in zip(questions, answers) {
      #expect(answer.isEmpty == (question.zone == "UTC"), "\(question.zone)")
      for window in answer {
        let schedule = try Schedule(
          CronExpression(question.cron), zone: #require(Zone(question.zone)), gap: GapPolicy(rawValue: window.gap),
          fold: FoldPolicy(rawValue: window.fold))
        let found = Self.seconds(schedule, from: window.from, until: window.until)
        windows += 1
        instants += found.count
        if found != window.instants {
          Issue.record(
            "\(question.zone) '\(question.cron)' gap \(window.gap) fold \(window.fold) from \(window.from): \(found) for \(window.instants)"
          )
        }
      }
    }
    #expect(windows > 4_000)
    print("\(windows) windows around jumps of \(Self.zones.count) zones, \(instants) instants")
  }

  @Test("a time of night on every day of 8 years in each zone")
  func years() throws {
    var questions: [ZoneQuestion] = []
    for (index, zone) in Self.zones.enumerated() {
      questions.append(
        ZoneQuestion(
          ask: "span", cron: "30 2 * * *", zone: zone, gap: index % 2 == 0 ? "after" : "skip",
          fold: ["first", "second", "both"][index % 3], from: Self.instant(2_018), until: Self.instant(2_026)))
      questions.append(
        ZoneQuestion(
          ask: "span", cron: "0 0 L * *", zone: zone, gap: "after", fold: "first", from: Self.instant(1_975),
          until: Self.instant(2_036)))
    }
    let answers = try Reference(of: "SchedulesTests").ask(questions, as: [Int].self)
    for (question, answer) in zip(questions, answers) {
      let schedule = try Schedule(
        CronExpression(question.cron), zone: #require(Zone(question.zone)),
        gap: question.gap.flatMap(GapPolicy.init), fold: question.fold.flatMap(FoldPolicy.init))
      let found = Self.seconds(schedule, from: question.from, until: question.until)
      let difference = zip(found, answer).first { $0 != $1 }
      #expect(
        found.count == answer.count && difference == nil, "\(question.zone) '\(question.cron)': \(difference as Any)")
    }
    print("\(answers.joined().count) instants over years")
  }

  @Test("business days: left out, moved on and moved back")
  func businessDays() throws {
    // Long runs of holidays over the ends of months and years, weekends of one, two and three days.
    let holidays = [
      "2024-12-24", "2024-12-25", "2024-12-26", "2024-12-30", "2024-12-31", "2025-01-01", "2025-01-02", "2025-04-18",
      "2025-04-21", "2025-05-01", "2025-05-30", "2025-06-02", "2025-08-01", "2025-12-25", "2025-12-26", "2026-01-01",
    ]
    var questions: [CalendarQuestion] = []
    for cron in [
      "0 9 * * *", "30 17 L * *", "0 6 1,15 * *", "0 8,20 * * 0,6", "0 7 25 12 *", "0 0 1 * MON", "0 5 * * 3",
    ] {
      for weekend in [[0, 6], [5], [4, 5, 6], []] {
        for policy in BusinessCalendar.NonBusinessDay.allCases {
          questions.append(
            CalendarQuestion(
              cron: cron, weekend: weekend, holidays: holidays, onHoliday: policy.rawValue,
              from: Self.instant(2024, 11), until: Self.instant(2026, 3)))
        }
      }
    }
    let answers = try Reference(of: "SchedulesTests").ask(questions, as: [Int].self)
    for (question, answer) in zip(questions, answers) {
      let calendar = try BusinessCalendar(
        weekend: Set(question.weekend.compactMap(Weekday.init)), holidays: Set(holidays.compactMap { CivilDate($0) }),
        onNonBusinessDay: #require(.init(rawValue: question.onHoliday)))
      // Saturdays and Sundays alone, less the weekend, are nothing at all, and refused.
      guard let schedule = try? Schedule(CronExpression(question.cron), calendar: calendar) else {
        #expect(answer.isEmpty)
        continue
      }
      let found = Self.seconds(schedule, from: question.from, until: question.until)
      #expect(found == answer, "\(question.cron) \(question.weekend) \(question.onHoliday)")
    }
    print("\(questions.count) questions about business days, \(answers.joined().count) instants")
  }
}
