import Testing

@testable import CellPool

@Suite struct PoolPlanTests {
  private let second: Int64 = 1_000_000

  @Test func nothingIsKeptBeforeAnOrder() {
    var plan = PoolPlan<String>(ceiling: 4)
    #expect(plan.wanted(now: 0) == [:])
    #expect(plan.reviewAt() == nil)
  }

  @Test func oneIsKeptAfterTheFirstOrder() {
    var plan = PoolPlan<String>(ceiling: 4)
    plan.ordered("a", waiting: 0, now: 0)
    #expect(plan.wanted(now: 1) == ["a": 1])
    plan.ordered("a", waiting: 1, now: 2)
    #expect(plan.wanted(now: 3) == ["a": 1], "it was there: no more are needed")
  }

  @Test func everyMissAsksForOneMoreUpToTheCeiling() {
    var plan = PoolPlan<String>(ceiling: 3)
    for now in 0..<10 as Range<Int64> { plan.ordered("a", waiting: 0, now: now) }
    #expect(plan.wanted(now: 10) == ["a": 3])
  }

  @Test func aCeilingOfZeroKeepsNothing() {
    var plan = PoolPlan<String>(ceiling: 0)
    plan.ordered("a", waiting: 0, now: 0)
    #expect(plan.wanted(now: 1) == [:])
  }

  @Test func whatAlwaysWaitedIsGivenUp() {
    var plan = PoolPlan<String>(ceiling: 8)
    for _ in 0..<5 { plan.ordered("a", waiting: 0, now: 0) }
    #expect(plan.wanted(now: 1) == ["a": 5])
    // The period of the burst itself says nothing.
    #expect(plan.wanted(now: 10 * second) == ["a": 5])
    for now in 11...19 as ClosedRange<Int64> { plan.ordered("a", waiting: 5, now: now * second) }
    #expect(plan.wanted(now: 20 * second) == ["a": 1], "four of five waited all the time")
  }

  @Test func whatIsNotAskedForIsForgotten() {
    var plan = PoolPlan<String>(ceiling: 2)
    plan.ordered("a", waiting: 0, now: 0)
    #expect(plan.wanted(now: 599 * second)["a"] == 1)
    #expect(plan.wanted(now: 600 * second) == [:])
    #expect(plan.reviewAt() == nil)
  }

  @Test func theLatestShapesShareTheCeiling() {
    var plan = PoolPlan<String>(ceiling: 3)
    for _ in 0..<2 { plan.ordered("old", waiting: 0, now: 1) }
    for _ in 0..<2 { plan.ordered("new", waiting: 0, now: 2) }
    #expect(plan.wanted(now: 3) == ["new": 2, "old": 1])
    for _ in 0..<3 { plan.ordered("newest", waiting: 0, now: 4) }
    #expect(plan.wanted(now: 5) == ["newest": 3])
    #expect(plan.wanted(now: 6) == ["newest": 3], "the others were forgotten")
  }

  @Test func whatCannotBeBuiltIsNotTriedAgainBeforeAnOrder() {
    var plan = PoolPlan<String>(ceiling: 2)
    plan.ordered("a", waiting: 0, now: 0)
    plan.failed("a")
    #expect(plan.wanted(now: 1) == [:])
    plan.ordered("a", waiting: 0, now: 2)
    #expect(plan.wanted(now: 3) == ["a": 1])
  }
}
