import Foundation
import Jobs
import Schedules
import Testing

@Suite("The document of a schedule")
struct DocumentTests {
  /// A document with the given members besides the three it needs.
  private static func document(_ members: String) -> String {
    #"{"cron":"30 2 * * *","zone":"Europe/Zurich","specification":{"runtime":"bash","code":"date"}\#(members)}"#
  }

  @Test("every member is read, and written again as it was read")
  func everything() throws {
    let text = """
      {"cron": "0 9 * * MON-FRI", "zone": "Europe/Zurich", "gap": "skip", "fold": "both",
       "calendar": {"weekend": ["sat", "sun"], "holidays": ["2026-12-25", "2026-12-24"], "on_holiday": "next_business_day"},
       "overlap": "cancel_previous", "missed": {"catch_up": 3}, "queue": "reconcile", "priority": 2,
       "starts": "2026-01-01T00:00:00+01:00", "ends": "2027-01-01T00:00:00.250Z",
       "specification": {"runtime": "exec", "argv": ["/usr/bin/true"]}}
      """
    let document = try ScheduleDocument(text)
    #expect(document.schedule.expression.description == "0 9 * * MON-FRI")
    #expect(document.schedule.zone.identifier == "Europe/Zurich")
    #expect(document.schedule.gap == .skip && document.schedule.fold == .both)
    #expect(document.schedule.calendar?.weekend == [.saturday, .sunday])
    #expect(document.schedule.calendar?.holidays.count == 2)
    #expect(document.schedule.calendar?.onNonBusinessDay == .nextBusinessDay)
    #expect(document.overlap == .cancelPrevious && document.missed == .catchUp(3))
    #expect(document.queue == "reconcile" && document.priority == 2)
    #expect(document.schedule.starts == at("2025-12-31T23:00:00Z"))
    #expect(document.schedule.ends == at("2027-01-01T00:00:00Z").addingTimeInterval(0.25))
    #expect(document.specification["runtime"]?.string == "exec")
    let written = try JSONEncoder().encode(document)
    #expect(try JSONDecoder().decode(ScheduleDocument.self, from: written) == document)
    #expect(try ScheduleDocument(String(decoding: written, as: UTF8.self)) == document)
  }

  @Test("defaults are spelled out when it is written")
  func defaults() throws {
    let document = try ScheduleDocument(Self.document(""))
    #expect(
      document.json
        == .object([
          "cron": .string("30 2 * * *"), "zone": .string("Europe/Zurich"), "gap": .string("after"),
          "fold": .string("first"), "overlap": .string("skip"), "missed": .string("coalesce"),
          "queue": .string("default"), "priority": .integer(4),
          "specification": .object(["runtime": .string("bash"), "code": .string("date")]),
        ]))
    let bare = try ScheduleDocument(Self.document(#","calendar":{}"#)).schedule.calendar
    #expect(try bare == BusinessCalendar(weekend: [.saturday, .sunday], holidays: [], onNonBusinessDay: .skip))
  }

  @Test(
    "what this build does not know, it does not keep",
    arguments: [
      (#","timezone":"UTC""#, "document: 'timezone' is unknown; there are calendar, cron, "),
      (#","gap":"before""#, "gap: 'before' is unknown; use one of skip, after"), (#","gap":null"#, "gap: is no string"),
      (#","fold":1"#, "fold: is no string"), (#","fold":"third""#, "fold: 'third' is unknown"),
      (#","overlap":"replace""#, "overlap: 'replace' is unknown; use one of skip, queue, cancel_previous"),
      (#","missed":"all""#, #"missed: is unknown; use "skip", "coalesce" or {"catch_up": 3}"#),
      (#","missed":3"#, "missed: "),
      (#","missed":{"catch_up":0}"#, "missed.catch_up: is no whole number from 1 to 1000"),
      (#","missed":{"catch_up":1.5}"#, "missed.catch_up: "), (#","missed":{}"#, "missed.catch_up: is missing"),
      (#","missed":{"catch_up":1,"within":"1h"}"#, "missed: 'within' is unknown"),
      (#","priority":10"#, "priority: is no whole number from 0 to 9"), (#","priority":"4""#, "priority: "),
      (#","queue":4"#, "queue: is no string"), (#","calendar":[]"#, "calendar: is no object"),
      (#","calendar":{"country":"CH"}"#, "calendar: 'country' is unknown"),
      (#","calendar":{"weekend":["saturday"]}"#, "calendar.weekend: 'saturday' is not sun to sat"),
      (#","calendar":{"weekend":["sat","SAT"]}"#, "calendar.weekend: holds 'SAT' twice"),
      (#","calendar":{"weekend":"sat"}"#, "calendar.weekend: is no array"),
      (
        #","calendar":{"weekend":["sun","mon","tue","wed","thu","fri","sat"]}"#,
        "calendar.weekend: leaves no business day"
      ),
      (#","calendar":{"holidays":["2026-02-29"]}"#, "calendar.holidays: '2026-02-29' is not a date"),
      (#","calendar":{"holidays":[20261225]}"#, "calendar.holidays: an entry is not a date"),
      (#","calendar":{"on_holiday":"later"}"#, "calendar.on_holiday: 'later' is unknown"),
      (
        #","calendar":{"weekend":["sun","mon","tue","wed","thu","fri"],"on_holiday":"previous"}"#, "calendar.on_holiday"
      ),
      (#","starts":"tomorrow""#, "starts: 'tomorrow' is no instant"), (#","starts":"2026-01-01""#, "starts: "),
      (#","starts":"2026-01-01T00:00:00Z","ends":"2026-01-01T00:00:00Z""#, "ends: is not after starts"),
    ])
  func strict(members: String, what: String) {
    let problem = #expect(throws: ScheduleProblem.self) { try ScheduleDocument(Self.document(members)) }
    #expect(problem?.description.hasPrefix("schedule: " + what) == true, "\(problem as Any)")
  }

  @Test(
    "what a schedule cannot be without",
    arguments: [
      ("", "document: is no JSON"), ("[]", "document: is no object"),
      (#"{"zone":"UTC","specification":{}}"#, "cron: is missing"),
      (#"{"cron":"* * * * *","specification":{}}"#, "zone: is missing"),
      (#"{"cron":"* * * * *","zone":"UTC"}"#, "specification: is missing"),
      (#"{"cron":"* * * * *","zone":"UTC","specification":"x"}"#, "specification: is missing or no object"),
      (#"{"cron":"* * * * *","zone":"CEST","specification":{}}"#, "zone: 'CEST' is unknown; use a name such as"),
      (#"{"cron":"* 99 * * *","zone":"UTC","specification":{}}"#, "cron: hour: 99 is out of range"),
      (#"{"cron":5,"zone":"UTC","specification":{}}"#, "cron: is no string"),
    ])
  func needed(text: String, what: String) {
    let problem = #expect(throws: ScheduleProblem.self) { try ScheduleDocument(text) }
    #expect(problem?.description.hasPrefix("schedule: " + what) == true, "\(problem as Any)")
  }
}
