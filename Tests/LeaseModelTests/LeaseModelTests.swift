import LeaseModel
import Testing

@Suite("The lease protocol as a model, in every state it can be in")
struct LeaseModelTests {
  /// The model's size: jobs, workers, faults that may happen on one way.
  struct Size: Sendable, CustomTestStringConvertible {
    var jobs: Int
    var workers: Int
    var faults: Int

    var state: LeaseState { LeaseState(jobs: jobs, workers: workers, faults: faults) }
    var testDescription: String { "\(jobs) jobs, \(workers) workers, \(faults) faults" }
  }

  @Test(
    "no order of calls, losses, delays, deaths and silences breaks a promise, and none leaves a job that cannot end",
    arguments: [Size(jobs: 1, workers: 2, faults: 2), Size(jobs: 2, workers: 2, faults: 0)])
  func holds(size: Size) {
    let found = size.state.explore()
    print("\(size.testDescription): \(found.states) states, \(found.transitions) transitions")
    #expect(found.violation == nil, "\(found.violation?.rawValue ?? ""): \(found.trace)")
    #expect(found.states > 1_000)
  }

  @Test(
    "each rule of the protocol is needed: without it a promise breaks, and the model shows how",
    arguments: [
      (Rules.completeWithoutToken, Violation.withoutLease), (.rescueLeavesLease, .twoPlaces),
      (.completeTwice, .twoFinals), (.cancelLeavesWaiting, .twoPlaces), (.releaseCountsUnstarted, .numbering),
      (.rescueForgetsRetired, .stuck), (.startIgnoresCancel, .startedCancelled),
      (.repeatIsLate, .untrueAnswer), (.recallTakesStarted, .begunTwice), (.revokeLeavesLease, .twoPlaces),
    ])
  func needed(rule: Rules, violation: Violation) {
    let found = Size(jobs: 1, workers: 2, faults: 1).state.explore(rules: rule)
    #expect(found.violation == violation, "\(found.violation?.rawValue ?? "none"): \(found.trace)")
    #expect(!found.trace.isEmpty)
  }
}
