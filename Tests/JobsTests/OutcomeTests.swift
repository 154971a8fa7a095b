import Jobs
import Testing

@Suite("An outcome follows from kernel facts alone")
struct OutcomeTests {
  @Test(
    "each fact by itself",
    arguments: [
      (ExitFacts(status: .exited(0)), Outcome.succeeded),
      (ExitFacts(status: .exited(3)), .failed(code: 3)),
      (ExitFacts(status: .exited(137)), .failed(code: 137)),
      (ExitFacts(status: .signaled(9)), .signaled(signal: 9)),
      (ExitFacts(status: .signaled(9), oomKills: 1), .outOfMemory),
      (ExitFacts(status: .exited(1), outputExhausted: true), .outputLimit),
      (ExitFacts(status: .exited(0), pidsLimitHits: 9), .succeeded),
      (ExitFacts(status: .signaled(15), stopped: .wallClock), .timedOut),
      (ExitFacts(status: .unknown, stopped: .cancelled), .cancelled),
      (ExitFacts(status: .exited(0), stopped: .abandoned), .lost),
      (ExitFacts(status: .unknown), .lost),
    ])
  func single(facts: ExitFacts, expected: Outcome) {
    #expect(facts.outcome == expected)
  }

  @Test("what the supervisor did outranks what the kernel did, which outranks how the process ended")
  func precedence() {
    let everything = ExitFacts(
      status: .exited(0), oomKills: 1, pidsLimitHits: 1, outputExhausted: true, stopped: .wallClock)
    #expect(everything.outcome == .timedOut)
    var facts = everything
    facts.stopped = nil
    #expect(facts.outcome == .outOfMemory)
    facts.oomKills = 0
    #expect(facts.outcome == .outputLimit)
    facts.outputExhausted = false
    #expect(facts.outcome == .succeeded)
  }

  @Test("a limit that did not decide the outcome is noted")
  func notes() {
    #expect(ExitFacts(status: .exited(0), pidsLimitHits: 2).notes == ["pids_limit"])
    #expect(ExitFacts(status: .exited(0), outputExhausted: true).notes == [])
    #expect(ExitFacts(status: .unknown, outputExhausted: true, stopped: .wallClock).notes == ["output_limit"])
  }

  @Test("only exits have codes, only signals have numbers")
  func numbers() {
    #expect(Outcome.succeeded.exitCode == 0)
    #expect(Outcome.failed(code: 7).exitCode == 7)
    #expect(Outcome.signaled(signal: 6).signal == 6)
    for outcome in [Outcome.timedOut, .outOfMemory, .outputLimit, .cancelled, .lost, .refused] {
      #expect(outcome.exitCode == nil && outcome.signal == nil)
    }
  }
}
