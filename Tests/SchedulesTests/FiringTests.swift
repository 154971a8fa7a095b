import Foundation
import Schedules
import TestKit
import Testing

@Suite("What fires now")
struct FiringTests {
  private let hourly = try! Schedule(CronExpression("0 * * * *"))

  private func firing(
    _ handled: String, _ now: String, _ missed: MissedRuns, _ schedule: Schedule? = nil
  ) -> Firing {
    (schedule ?? hourly).firing(handled: at(handled), now: at(now), missed: missed)
  }

  @Test("an instant in time fires under every policy, and once", arguments: [MissedRuns.skip, .coalesce, .catchUp(3)])
  func inTime(missed: MissedRuns) {
    let before = firing("2026-01-01T00:30:00Z", "2026-01-01T00:59:59Z", missed)
    #expect(before.instants == [] && before.next == at("2026-01-01T01:00:00Z") && before.forgone == nil)
    let due = hourly.firing(handled: before.handled, now: at("2026-01-01T01:00:00Z"), missed: missed)
    #expect(due.instants == [at("2026-01-01T01:00:00Z")] && due.next == at("2026-01-01T02:00:00Z"))
    #expect(due.forgone == nil)
    let again = hourly.firing(handled: due.handled, now: at("2026-01-01T01:00:30Z"), missed: missed)
    #expect(again.instants == [] && again.next == at("2026-01-01T02:00:00Z"))
    // Exactly as late as is tolerated, and a second more.
    #expect(firing("2026-01-01T00:30:00Z", "2026-01-01T01:01:00Z", .skip).instants == [at("2026-01-01T01:00:00Z")])
    #expect(firing("2026-01-01T00:30:00Z", "2026-01-01T01:01:01Z", .skip).instants == [])
  }

  @Test("what was missed is left out, stands for one run, or is run up to a number")
  func missed() {
    let (handled, now) = ("2026-01-01T00:30:00Z", "2026-01-01T05:30:00Z")
    let hours = (1...5).map { at("2026-01-01T0\($0):00:00Z") }
    #expect(firing(handled, now, .skip).instants == [] && firing(handled, now, .skip).forgone == hours[0]...hours[4])
    #expect(firing(handled, now, .coalesce).instants == [hours[4]])
    #expect(firing(handled, now, .coalesce).forgone == hours[0]...hours[3])
    #expect(firing(handled, now, .catchUp(2)).instants == [hours[3], hours[4]])
    #expect(firing(handled, now, .catchUp(2)).forgone == hours[0]...hours[2])
    #expect(firing(handled, now, .catchUp(5)).instants == hours && firing(handled, now, .catchUp(5)).forgone == nil)
    #expect(firing(handled, now, .catchUp(9)).instants == hours)
    #expect(firing(handled, now, .catchUp(9)).next == at("2026-01-01T06:00:00Z"))
  }

  @Test("an instant in time stands for the missed ones before it, or follows them")
  func both() {
    let (handled, now) = ("2026-01-01T00:30:00Z", "2026-01-01T03:00:10Z")
    let hours = (1...3).map { at("2026-01-01T0\($0):00:00Z") }
    #expect(firing(handled, now, .skip).instants == [hours[2]])
    #expect(firing(handled, now, .skip).forgone == hours[0]...hours[1])
    #expect(firing(handled, now, .coalesce).instants == [hours[2]])
    #expect(firing(handled, now, .coalesce).forgone == hours[0]...hours[1])
    #expect(firing(handled, now, .catchUp(1)).instants == [hours[1], hours[2]])
    #expect(firing(handled, now, .catchUp(1)).forgone == hours[0]...hours[0])
  }

  @Test(
    "instants that lie closer than what is tolerated fire once", arguments: [MissedRuns.skip, .coalesce, .catchUp(3)])
  func close(missed: MissedRuns) throws {
    let schedule = try Schedule(CronExpression("*/10 * * * * *"))
    var handled = at("2026-01-01T00:00:05Z")
    var fired: [Date] = []
    for step in 1...100 {
      let firing = schedule.firing(
        handled: handled, now: at("2026-01-01T00:00:05Z").addingTimeInterval(Double(step) * 7), missed: missed)
      fired += firing.instants
      handled = firing.handled
    }
    #expect(fired == schedule.instants(after: at("2026-01-01T00:00:05Z"), limit: fired.count) && fired.count == 70)
  }

  @Test("a clock that was set back fires nothing twice")
  func backwards() {
    let back = firing("2026-01-01T05:00:00Z", "2026-01-01T03:30:00Z", .catchUp(9))
    #expect(back.instants == [] && back.handled == at("2026-01-01T05:00:00Z"))
    #expect(back.next == at("2026-01-01T06:00:00Z"))
  }

  @Test("a schedule that has ended has nothing next")
  func ended() throws {
    let schedule = try Schedule(CronExpression("0 * * * *"), ends: at("2026-01-01T02:00:00Z"))
    let last = firing("2026-01-01T00:30:00Z", "2026-01-01T09:00:00Z", .coalesce, schedule)
    #expect(last.instants == [at("2026-01-01T01:00:00Z")] && last.forgone == nil && last.next == nil)
    #expect(firing("2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z", .coalesce, schedule).instants == [])
  }

  @Test("ten years without a worker cost no ten years of seconds")
  func longAbsence() throws {
    let clock = ContinuousClock()
    let secondly = try Schedule(CronExpression("* * * * * *"))
    var result: Firing?
    let took = clock.measure {
      result = firing("2016-01-01T00:00:00Z", "2026-01-01T00:00:00Z", .catchUp(3), secondly)
    }
    #expect(result?.forgone?.lowerBound == at("2016-01-01T00:00:01Z"))
    #expect(result?.forgone?.upperBound == at("2025-12-31T23:58:56Z"))
    // 61 seconds are within the tolerance, and three more are caught up with.
    #expect(result?.instants.count == 64)
    let yearly = try Schedule(CronExpression("@yearly"))
    #expect(
      firing("2016-01-01T00:00:00Z", "2026-06-01T00:00:00Z", .catchUp(2), yearly).instants
        == [at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")])
    #expect(took < .seconds(2), "\(took)")
    print("ten years of seconds settled in \(took)")
  }

  /// However the moments lie at which somebody looks, what is fired and what is forgone make up all instants.
  @Test(
    "nothing is fired twice and nothing lost, whenever anybody looks",
    arguments: [MissedRuns.skip, .coalesce, .catchUp(2)])
  func exhaustive(missed: MissedRuns) throws {
    var random = Seeded(7)
    let schedule = try Schedule(CronExpression("*/7 2-5,20 * * *"), zone: #require(Zone("Europe/Zurich")))
    let start = at("2026-03-27T00:00:00Z")
    var (handled, now) = (start, start)
    var fired: [Date] = []
    var forgone: [ClosedRange<Date>] = []
    while now < at("2026-04-02T00:00:00Z") {
      now.addTimeInterval(Double.random(in: 1...(Bool.random(using: &random) ? 90 : 4_000), using: &random))
      let firing = schedule.firing(handled: handled, now: now, missed: missed)
      fired += firing.instants
      if let range = firing.forgone { forgone.append(range) }
      #expect(firing.next.map { $0 > now } == true)
      handled = firing.handled
    }
    #expect(fired == fired.sorted() && Set(fired).count == fired.count)
    let all = schedule.instants(after: start).prefix { $0 <= handled }
    for instant in all {
      #expect(Set(fired).contains(instant) != forgone.contains { $0.contains(instant) }, "\(instant)")
    }
    #expect(!fired.isEmpty && !forgone.isEmpty)
  }
}
