import Testing

@testable import Worker

@Suite struct ClaimPaceTests {
  private let start = ContinuousClock.now

  private func behind(_ attempts: [Duration] = [.milliseconds(20)]) -> ClaimPace {
    var pace = ClaimPace()
    for attempt in attempts { pace.attemptTook(attempt) }
    pace.claimed(8, of: 8)
    return pace
  }

  @Test func aWorkerThatIsNotBehindClaimsAtOnce() {
    var pace = behind()
    pace.claimed(3, of: 4)
    #expect(pace.wait(free: 1, slots: 8, now: start) == nil)
  }

  @Test func oneThatIsBehindWaitsForHalfOfItsSlots() {
    var pace = behind()
    #expect(pace.wait(free: 1, slots: 8, now: start) == ClaimPace.patience)
    #expect(pace.wait(free: 3, slots: 8, now: start + .milliseconds(3)) == ClaimPace.patience - .milliseconds(3))
    #expect(pace.wait(free: 4, slots: 8, now: start + .milliseconds(4)) == nil)
  }

  @Test func noSlotWaitsLongerThanItsPatience() {
    var pace = behind()
    #expect(pace.wait(free: 1, slots: 8, now: start) != nil)
    #expect(pace.wait(free: 2, slots: 8, now: start + ClaimPace.patience) == nil)
    // The next slot has a patience of its own.
    #expect(pace.wait(free: 1, slots: 8, now: start + .milliseconds(20)) == ClaimPace.patience)
  }

  @Test func longAttemptsAreClaimedOneByOne() {
    var pace = behind([.milliseconds(20), .seconds(5)])
    #expect(pace.wait(free: 1, slots: 8, now: start) == nil)
  }

  @Test(arguments: 1...2) func aWorkerWithFewSlotsNeverWaits(slots: Int) {
    var pace = behind()
    #expect(pace.wait(free: 1, slots: slots, now: start) == nil)
  }
}
