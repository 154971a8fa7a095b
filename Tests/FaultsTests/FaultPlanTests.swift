import FaultHistory
import Testing

@Suite("The script of faults")
struct FaultPlanTests {
  private func plan(seed: UInt64, most: Int? = nil, lasting: Duration? = .seconds(60)) -> FaultPlan {
    FaultPlan(seed: seed, lasting: lasting, most: most, workers: 3, lease: .seconds(2))
  }

  @Test("the same seed gives the same script, another one another")
  func reproducible() {
    #expect(plan(seed: 7) == plan(seed: 7))
    #expect(plan(seed: 7).faults != plan(seed: 8).faults)
  }

  @Test("every kind comes once before any comes twice")
  func everyKind() {
    let kinds = plan(seed: 3, most: FaultKind.allCases.count, lasting: nil).faults.map(\.kind)
    #expect(Set(kinds) == Set(FaultKind.allCases))
  }

  @Test("both bounds hold, shares of packets are within theirs, and some pauses outlast the lease and some do not")
  func bounds() {
    let long = plan(seed: 5, most: 2_000, lasting: nil).faults
    #expect(long.count == 2_000)
    #expect(plan(seed: 5, most: 10).faults.count == 10)
    #expect(plan(seed: 5).faults.allSatisfy { $0.at < .seconds(60) && (0..<3).contains($0.worker) })
    let lost = long.map(\.lost)
    #expect(lost.allSatisfy { (50...400).contains($0) } && lost.contains { $0 < 100 } && lost.contains { $0 > 350 })
    let pauses = long.filter { $0.kind == .pauseWorker }.map(\.length)
    #expect(pauses.contains { $0 > .seconds(2) } && pauses.contains { $0 < .seconds(2) })
  }
}
