import FoundationEssentials
import Schedules

/// A schedule, which a producer wrote and every worker reads.
enum ScheduleDocuments: Fuzzer {
  private static func document(_ cron: String, _ members: String = "") -> String {
    #"{"cron":"\#(cron)","zone":"Europe/Zurich","specification":{}\#(members)}"#
  }

  static var seeds: [[UInt8]] {
    [
      document("30 2 * * *"), document("*/7 * 29 2 */7", #","gap":"skip","fold":"second""#),
      document("0 0 L,15W,LW * 5#5,FRIL,L1", #","missed":{"catch_up":3},"overlap":"queue""#),
      document("5/20 0 9-17 1-31/2 JAN-DEC ?", #","calendar":{"weekend":["sat"],"holidays":["2026-12-25"]}"#),
      document("@daily", #","calendar":{"on_holiday":"previous_business_day"},"starts":"2026-01-01T00:00:00Z""#),
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    [
      "cron", "zone", "gap", "fold", "calendar", "weekend", "holidays", "on_holiday", "missed", "catch_up", "overlap",
      "starts", "ends", "skip", "after", "both", "coalesce", "next_business_day", "sun", "2026-02-28", "UTC",
      "Africa/Casablanca", "Australia/Lord_Howe", "* * * * * *", "0 0 31 2,4 *", "0 0 29 2 1#5",
    ].map { Array("\"\($0)\"".utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    guard let document = try? ScheduleDocument(String(decoding: bytes, as: UTF8.self)) else { return }
    expect((try? ScheduleDocument(document.json)) == document, "what is written is what was read")
    let schedule = document.schedule
    let start = Date(timeIntervalSince1970: 1_774_000_000)
    var last = start
    for instant in schedule.instants(after: start, limit: 20) {
      expect(instant > last, "instants are in order, each once")
      expect(schedule.ends.map { instant < $0 } ?? true, "none is past the end")
      expect(schedule.starts.map { instant >= $0 } ?? true, "none is before the start")
      expect(schedule.next(after: instant.addingTimeInterval(-0.5)) == instant, "from anywhere the next is the same")
      last = instant
    }
    let now = start.addingTimeInterval(100_000)
    let firing = schedule.firing(handled: start, now: now, missed: document.missed)
    expect(firing.instants.allSatisfy { $0 > start && $0 <= now }, "what fires is due")
    let again = schedule.firing(handled: firing.handled, now: now, missed: document.missed)
    expect(again.instants.isEmpty && again.next == firing.next, "what is settled does not fire")
  }
}
