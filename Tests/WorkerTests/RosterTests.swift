import Jobs
import Store
import Testing

@testable import Worker

@Suite("What a worker holds and when it stops it")
struct RosterTests {
  private static func claim(_ number: Int, token: Int64 = 1, isBegun: Bool = false) -> Claim {
    Claim(
      job: JobID("00000000-0000-7000-8000-00000000000\(number)")!, attempt: 1, token: token, tenant: "t", queue: "q",
      enqueuedBy: "p", specification: JobSpecification(runtime: .exec, argv: ["/usr/bin/true"]),
      specificationError: nil, limits: Limits(), policy: Digest(sha256: Array(repeating: 0, count: 32)),
      policyDocument: "{}", isBegun: isBegun)
  }

  private static func roster(slots: Int, holding claims: [Claim] = []) -> Roster {
    var roster = Roster(slots: slots)
    _ = roster.beginClaim()
    _ = roster.claimed(claims)
    return roster
  }

  @Test("free slots are what a serving worker asks for, one claim at a time")
  func wanted() {
    var roster = Roster(slots: 2)
    #expect(roster.beginClaim() == 2)
    #expect(roster.beginClaim() == 0)
    #expect(roster.claimed([Self.claim(1)]).run.count == 1)
    #expect(roster.beginClaim() == 1)
    _ = roster.claimed([])
    _ = roster.enter(.draining)
    #expect(roster.beginClaim() == 0)
  }

  @Test("a worker does not leave while a claim is under way, and gives back what it brings")
  func claimUnderWay() {
    var roster = Roster(slots: 1)
    #expect(roster.beginClaim() == 1)
    _ = roster.enter(.draining)
    #expect(!roster.mayLeave)
    let (run, giveBack) = roster.claimed([Self.claim(1)])
    #expect(run.isEmpty && giveBack.count == 1)
    #expect(!roster.mayLeave)
    roster.remove(token: 1)
    #expect(roster.mayLeave)
  }

  @Test("what began with its claim may finish while the worker drains, and is given back once it leaves")
  func begunWhileDraining() {
    var roster = Roster(slots: 2)
    _ = roster.beginClaim()
    _ = roster.enter(.draining)
    #expect(roster.claimed([Self.claim(1, isBegun: true)]).run.count == 1)
    #expect(roster.stopReason(token: 1) == nil)
    var leaving = Roster(slots: 2)
    _ = leaving.beginClaim()
    _ = leaving.enter(.leaving)
    #expect(leaving.claimed([Self.claim(1, isBegun: true)]).giveBack.count == 1)
  }

  @Test("draining lets attempts finish; leaving stops each once")
  func leaving() {
    var roster = Self.roster(slots: 2, holding: [Self.claim(1)])
    #expect(roster.enter(.draining).isEmpty)
    #expect(!roster.mayLeave)
    #expect(roster.enter(.leaving) == [1: .abandoned])
    #expect(roster.enter(.leaving).isEmpty)
    roster.remove(token: 1)
    #expect(roster.mayLeave)
  }

  @Test("modes never go back")
  func modes() {
    var roster = Roster(slots: 1)
    _ = roster.enter(.leaving)
    _ = roster.enter(.draining)
    #expect(roster.mode == .leaving)
  }

  @Test("the first reason stands")
  func firstReason() {
    var roster = Self.roster(slots: 1, holding: [Self.claim(1)])
    #expect(roster.apply([1: .cancel]) == [1: .cancelled])
    #expect(roster.apply([1: .lost]).isEmpty)
    #expect(roster.abandonAll().isEmpty)
    #expect(roster.stopReason(token: 1) == .cancelled)
  }

  @Test("two attempts of one job are two: neither a verdict on the old lease nor its end touches the new one")
  func sameJobAgain() {
    let old = Self.claim(1, token: 1)
    var roster = Self.roster(slots: 2, holding: [old])
    _ = roster.beginClaim()
    _ = roster.claimed([Self.claim(1, token: 2)])
    #expect(roster.apply([1: .lost]) == [1: .abandoned])
    roster.remove(token: 1)
    #expect(roster.held.map(\.token) == [2])
    #expect(roster.stopReason(token: 2) == nil)
  }

  @Test func whatIsFrozenIsToldOnceAndGoesOnWhenItIsSaidNoMore() {
    var roster = Roster(slots: 4)
    _ = roster.beginClaim()
    let claims = [Self.claim(1, token: 1), Self.claim(2, token: 2)]
    _ = roster.claimed(claims)
    let tokens = claims.map(\.token)
    #expect(roster.apply([tokens[0]: .freeze]).isEmpty)
    #expect(roster.freeze([tokens[0]: .freeze], asked: tokens) == [tokens[0]: true])
    #expect(roster.freeze([tokens[0]: .freeze], asked: tokens).isEmpty)
    // A heartbeat that did not name it says nothing of it.
    #expect(roster.freeze([:], asked: [tokens[1]]).isEmpty)
    #expect(roster.isFrozen(token: tokens[0]))
    #expect(roster.freeze([:], asked: tokens) == [tokens[0]: false])
    // What is stopped is neither frozen nor let go on.
    _ = roster.apply([tokens[1]: .lost])
    #expect(roster.freeze([tokens[1]: .freeze], asked: tokens).isEmpty)
  }
}
