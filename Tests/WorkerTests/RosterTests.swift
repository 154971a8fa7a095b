import Jobs
import Store
import Testing

@testable import Worker

@Suite("What a worker holds and when it stops it")
struct RosterTests {
  private static func claim(_ number: Int, token: Int64 = 1) -> Claim {
    Claim(
      job: JobID("00000000-0000-7000-8000-00000000000\(number)")!, attempt: 1, token: token, tenant: "t", queue: "q",
      enqueuedBy: "p", specification: JobSpecification(runtime: .exec, argv: ["/usr/bin/true"]),
      specificationError: nil, limits: Limits(), policy: Digest(sha256: Array(repeating: 0, count: 32)),
      policyDocument: "{}")
  }

  @Test("free slots are what a serving worker asks for")
  func wanted() {
    var roster = Roster(slots: 2)
    #expect(roster.wanted == 2)
    roster.add(Self.claim(1))
    #expect(roster.wanted == 1)
    _ = roster.enter(.draining)
    #expect(roster.wanted == 0)
  }

  @Test("draining lets attempts finish; leaving stops each once")
  func leaving() {
    var roster = Roster(slots: 2)
    let claim = Self.claim(1)
    roster.add(claim)
    #expect(roster.enter(.draining).isEmpty)
    #expect(!roster.mayLeave)
    #expect(roster.enter(.leaving) == [claim.job: .abandoned])
    #expect(roster.enter(.leaving).isEmpty)
    roster.remove(claim.job)
    #expect(roster.mayLeave)
  }

  @Test("modes never go back")
  func modes() {
    var roster = Roster(slots: 1)
    _ = roster.enter(.leaving)
    _ = roster.enter(.draining)
    #expect(roster.mode == .leaving)
  }

  @Test("a claim that arrives while leaving is given back")
  func lateClaim() {
    var roster = Roster(slots: 1)
    _ = roster.enter(.leaving)
    let claim = Self.claim(1)
    roster.add(claim)
    #expect(roster.stopReason(claim.job) == .abandoned)
  }

  @Test("the first reason stands")
  func firstReason() {
    var roster = Roster(slots: 1)
    let claim = Self.claim(1)
    roster.add(claim)
    #expect(roster.apply([claim.job: .cancel], to: roster.held) == [claim.job: .cancelled])
    #expect(roster.apply([claim.job: .lost], to: roster.held).isEmpty)
    #expect(roster.abandonAll().isEmpty)
    #expect(roster.stopReason(claim.job) == .cancelled)
  }

  @Test("a verdict on an older lease of the same job says nothing about the new one")
  func staleVerdict() {
    var roster = Roster(slots: 1)
    let old = Self.claim(1, token: 1)
    roster.add(old)
    let asked = roster.held
    roster.remove(old.job)
    roster.add(Self.claim(1, token: 2))
    #expect(roster.apply([old.job: .lost], to: asked).isEmpty)
  }
}
