import Testing

@testable import Worker

@Suite struct ScheduleFiringTests {
  /// Never no pause, so that what cannot be fired costs little; never longer than a new schedule may go unseen.
  @Test func aWorkerLooksWhenTheNextIsDueAndOftenEnough() {
    #expect(ScheduleFiring.pause(dueIn: 0.5) == .milliseconds(520))
    #expect(ScheduleFiring.pause(dueIn: 0.0001) == .milliseconds(21))
    for late in [0, -0.5, -1e300] { #expect(ScheduleFiring.pause(dueIn: late) == .milliseconds(20)) }
    for far in [5, 3_600, 1e300, .infinity] { #expect(ScheduleFiring.pause(dueIn: far) == .seconds(5)) }
  }
}
