import Jobs
import Store
import Testing

@testable import Worker

@Suite struct LaneCursorTests {
  private let start = ContinuousClock.now

  private func claim(_ lane: Int32, _ rank: Int64) -> Claim {
    Claim(
      job: JobID("01a215c0-165b-775c-99b4-b3b57b86cc3f")!, attempt: 1, token: rank, tenant: "t", queue: "q",
      enqueuedBy: "p", specification: nil, specificationError: nil, limits: Limits(),
      policy: Digest("sha256:" + String(repeating: "0", count: 64))!,
      policyDocument: "", lane: lane, rank: rank)
  }

  @Test func aFastLookIsRepeatedBehindTheLastLane() {
    var cursor = LaneCursor()
    #expect(cursor.search(now: start) == .look(behind: 0))
    cursor.found(
      [claim(3, 1), claim(7, 5)], by: .look(behind: 0), limit: 2, began: start, now: start + .milliseconds(1))
    #expect(cursor.search(now: start) == .look(behind: 7))
  }

  @Test func afterASlowLookOnlyKnownLanesAreSearchedForAWhile() {
    var cursor = LaneCursor()
    let end = start + .milliseconds(100)
    cursor.found([claim(3, 1), claim(7, 5), claim(3, 2)], by: .look(behind: 0), limit: 3, began: start, now: end)
    let known = [KnownLane(lane: 7, floor: 5), KnownLane(lane: 3, floor: 2)]
    #expect(cursor.search(now: end + .milliseconds(1_999)) == .known(known))
    #expect(cursor.search(now: end + .milliseconds(2_000)) == .look(behind: 3))
  }

  @Test func aKnownLaneThatGaveNothingIsForgotten() {
    var cursor = LaneCursor()
    let end = start + .milliseconds(100)
    cursor.found([claim(3, 1), claim(7, 5)], by: .look(behind: 0), limit: 2, began: start, now: end)
    guard let search = cursor.search(now: end) else { return #expect(Bool(false)) }
    cursor.found([claim(7, 9)], by: search, limit: 4, began: end, now: end)
    #expect(cursor.search(now: end) == .known([KnownLane(lane: 7, floor: 9)]))
    cursor.found([], by: .known([KnownLane(lane: 7, floor: 9)]), limit: 4, began: end, now: end)
    #expect(cursor.search(now: end) == nil, "only a look can find more, and not yet")
    #expect(cursor.search(now: end, isTold: true) == .look(behind: 7), "unless somebody says that there is something")
    #expect(cursor.search(now: end + .seconds(2)) == .look(behind: 7))
  }

  /// One that was full before a lane's turn has shown nothing about it.
  @Test func aFullClaimForgetsNoLane() {
    var cursor = LaneCursor()
    let end = start + .milliseconds(100)
    cursor.found([claim(3, 1), claim(7, 5)], by: .look(behind: 0), limit: 2, began: start, now: end)
    guard let search = cursor.search(now: end) else { return #expect(Bool(false)) }
    cursor.found([claim(3, 2)], by: search, limit: 1, began: end, now: end)
    #expect(
      cursor.search(now: end) == .known([KnownLane(lane: 7, floor: 5), KnownLane(lane: 3, floor: 2)]))
  }

  @Test func whatIsKnownAndHowLongItRestsIsBounded() {
    var cursor = LaneCursor()
    let end = start + .seconds(60)
    cursor.found((0..<200).map { claim($0, 1) }, by: .look(behind: 0), limit: 200, began: start, now: end)
    guard case .known(let known)? = cursor.search(now: end) else { return #expect(Bool(false)) }
    #expect(known.count == LaneCursor.mostKnown && known.last?.lane == 199)
    #expect(cursor.search(now: end + LaneCursor.longestRest) == .look(behind: 199))
  }
}
