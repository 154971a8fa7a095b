import Jobs
import Sandbox
import Testing

@testable import Worker

@Suite("OP-03: the canary")
struct CanaryTests {
  private static let good = Finding(control: "seccomp", holds: true, detail: "Seccomp is 2")
  private static let uids = Finding(control: "uids", holds: false, detail: "shared", fix: "run the warden as root")
  private static let mounts = Finding(control: "mounts", holds: false, detail: "/usr is not ro")
  private static let start = ContinuousClock.now

  private static func canary(waived: Set<String> = [], spread: Double = 1) -> Canary {
    Canary(interval: .seconds(180), waived: waived, now: start, spread: spread)
  }

  @Test("looks at least once an interval, and not before three quarters of it", arguments: [-1, 0, 0.3, 1, 7.0])
  func due(spread: Double) {
    var canary = Self.canary(spread: spread)
    #expect((Self.start + .seconds(135)...Self.start + .seconds(180)).contains(canary.due))
    canary.schedule(after: Self.start + .seconds(1_000), spread: spread)
    #expect((Self.start + .seconds(1_135)...Self.start + .seconds(1_180)).contains(canary.due))
  }

  @Test("two workers that start at once do not stay in step")
  func spread() {
    #expect(Self.canary(spread: 0).due == Self.start + .seconds(135))
    #expect(Self.canary(spread: 1).due == Self.start + .seconds(180))
  }

  @Test("all in force, or missing since the start and waived: it serves on")
  func serves() {
    #expect(Self.canary().verdict([Self.good]) == .serve)
    #expect(Self.canary(waived: ["uids"]).verdict([Self.good, Self.uids]) == .serve)
  }

  @Test("a control that stopped holding drains, waivable or not")
  func drains() {
    #expect(Self.canary().verdict([Self.good, Self.mounts]) == .drain(Self.mounts))
    #expect(Self.canary(waived: ["uids"]).verdict([Self.uids, Self.mounts]) == .drain(Self.mounts))
    #expect(Self.canary().verdict([Self.uids]) == .drain(Self.uids))
  }

  @Test("a canary that did not run, or looked at nothing, shows that nothing holds")
  func cannotRun() {
    for verdict in [Self.canary(waived: ["canary"]).verdict(failed: "cell: no"), Self.canary().verdict([])] {
      guard case .drain(let finding) = verdict else {
        Issue.record("it serves on")
        continue
      }
      #expect(finding.control == "canary" && !finding.holds && finding.fix != nil)
    }
  }

  @Test("a look that hangs is given up, one that throws is its error, one that answers is its answer")
  func look() async throws {
    let hanging = await Canary.look(patience: .milliseconds(50)) {
      try await Task.sleep(for: .seconds(60))
      return [Self.good]
    }
    guard case .failure(let error) = hanging else {
      Issue.record("a hanging look was taken for an answer")
      return
    }
    #expect(error is CanaryTimeout)
    let failing = await Canary.look { throw SandboxError(stage: "cell", message: "no") }
    guard case .failure(let cause) = failing else {
      Issue.record("a failing look was taken for an answer")
      return
    }
    #expect(cause is SandboxError)
    #expect(try await Canary.look { [Self.good] }.get() == [Self.good])
  }
}

@Suite("OP-02: what a worker may lack")
struct BoundaryTests {
  private static let findings = [
    Finding(control: "seccomp", holds: true, detail: "Seccomp is 2"),
    Finding(control: "uids", holds: false, detail: "shared", fix: "run the warden as root"),
    Finding(control: "groups", holds: false, detail: "kept"),
  ]

  private static func terms(_ waivers: Set<String>) -> PolicyTerms {
    var terms = PolicyTerms()
    terms.waivers = waivers
    return terms
  }

  @Test("nothing missing, nothing waived")
  func nothing() throws {
    #expect(try Boundary(findings: [Self.findings[0]], terms: Self.terms(["uids"])).waived == [])
  }

  @Test("all that is missing is waived: it serves, and knows what to record")
  func waived() throws {
    #expect(try Boundary(findings: Self.findings, terms: Self.terms(["groups", "uids"])).waived == ["groups", "uids"])
  }

  @Test("one that is not waived: it refuses, naming that one, the fix and that a policy may waive it")
  func refuses() {
    let error = #expect(throws: WorkerError.self) {
      try Boundary(findings: Self.findings, terms: Self.terms(["groups"]))
    }
    let line = error?.description ?? ""
    #expect(line.contains("uids: shared (fix: run the warden as root, or a policy with \"waivers\": [\"uids\"])"))
    #expect(!line.contains("groups"))
  }

  @Test("what cannot be waived is not, whatever terms say")
  func never() {
    let broken = [Finding(control: "seccomp", holds: false, detail: "Seccomp is 0")]
    let error = #expect(throws: WorkerError.self) {
      try Boundary(findings: broken, terms: Self.terms(["seccomp"]))
    }
    #expect(error?.description.contains("policy") == false)
  }
}
