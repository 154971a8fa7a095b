import NIOCore
import Testing

@testable import Broker

/// What a principal may send over many attempts, and what of it each worker knows.
@Suite struct AllowanceTests {
  /// The sum that the database keeps; numbers that it knows are not counted again.
  private struct Sum {
    let budget: Int64
    var used: Int64 = 0
    private var known: Set<Int64> = []

    init(budget: Int64) { self.budget = budget }

    mutating func left(after batch: EgressAllowance.Batch) -> Int64 {
      for report in batch.reports where known.insert(report.number).inserted { used += report.amounts.sent }
      return max(0, budget - used)
    }
  }

  private func allowance(_ left: Int64?, _ tokens: Int64...) -> EgressAllowance {
    let allowance = EgressAllowance(of: "helper")
    for token in tokens { allowance.join(token) }
    allowance.answered(allowance.report(), left: left)
    return allowance
  }

  private static let rule = #"principal "helper" has used its egress of the day"#

  @Test func nothingIsSpentBeforeTheDatabaseWasHeard() throws {
    let allowance = EgressAllowance(of: "helper")
    allowance.join(1)
    #expect(throws: Denial(rule: Self.rule)) { try allowance.requireSome() }
    #expect(throws: Denial(rule: Self.rule)) { try allowance.spend(sent: 1, received: 0, by: 1) }
    try allowance.spend(sent: 0, received: 1, by: 1)
  }

  @Test("attempts of one principal share what is left, to the last byte; what comes back is not bounded by it")
  func shared() throws {
    let allowance = allowance(100, 1, 2)
    try allowance.spend(sent: 60, received: 1_000_000, by: 1)
    try allowance.spend(sent: 40, received: 0, by: 2)
    #expect(throws: Denial.self) { try allowance.spend(sent: 1, received: 0, by: 1) }
    #expect(throws: Denial.self) { try allowance.requireSome() }
    try allowance.spend(sent: 0, received: 1, by: 2)
    let amounts = allowance.report().reports.map(\.amounts)
    #expect(amounts.map(\.sent) == [60, 40] && amounts.map(\.received) == [1_000_000, 1])
  }

  @Test("what is left and does not suffice counts as used, so that the queue comes to the same end")
  func remainder() throws {
    let allowance = allowance(100, 1)
    try allowance.spend(sent: 95, received: 0, by: 1)
    #expect(throws: Denial.self) { try allowance.spend(sent: 6, received: 0, by: 1) }
    #expect(throws: Denial.self) { try allowance.spend(sent: 1, received: 0, by: 1) }
    #expect(allowance.report().reports.map(\.amounts.sent) == [100])
  }

  @Test func aPrincipalWithoutABudgetIsNotBoundedAndOwesNoReport() throws {
    let allowance = allowance(nil, 1)
    try allowance.spend(sent: .max / 2, received: 0, by: 1)
    try allowance.requireSome()
    #expect(!allowance.owes(1))
  }

  @Test("a report whose answer is lost is said again under its number, and what came after it under another")
  func lostAnswer() throws {
    var sum = Sum(budget: 1_000)
    let allowance = allowance(1_000, 1)
    try allowance.spend(sent: 300, received: 0, by: 1)
    _ = sum.left(after: allowance.report())
    try allowance.spend(sent: 50, received: 0, by: 1)
    let again = allowance.report()
    #expect(again.reports.map(\.amounts.sent) == [300])
    allowance.answered(again, left: sum.left(after: again))
    #expect(sum.used == 300 && allowance.owes(1))
    // 700 by the database's word, of which 50 are gone meanwhile.
    #expect(throws: Denial.self) { try allowance.spend(sent: 651, received: 0, by: 1) }
    let last = allowance.report()
    allowance.answered(last, left: sum.left(after: last))
    #expect(sum.used == 1_000 && !allowance.owes(1))
  }

  @Test("an answer that is older than one that was heard does not give back what was spent")
  func lateAnswer() throws {
    let allowance = allowance(100, 1)
    let early = allowance.report()
    try allowance.spend(sent: 80, received: 0, by: 1)
    allowance.answered(early, left: 100)
    let late = allowance.report()
    allowance.answered(late, left: 20)
    allowance.answered(early, left: 100)
    #expect(throws: Denial.self) { try allowance.spend(sent: 21, received: 0, by: 1) }
  }

  @Test("what comes free again, or is raised, is spent again")
  func raised() throws {
    let allowance = allowance(0, 1)
    #expect(throws: Denial.self) { try allowance.requireSome() }
    allowance.answered(allowance.report(), left: 10)
    try allowance.spend(sent: 10, received: 0, by: 1)
  }

  /// The bound that the page on egress states.
  @Test(
    "workers beside each other pass a budget by no more than the others send between two reports", arguments: 1...6)
  func overshoot(workers: Int) throws {
    var sum = Sum(budget: 10_000)
    let allowances = (0..<workers).map { allowance(10_000, Int64($0)) }
    // Each sends as fast as it can: so much between two reports.
    let most: Int64 = 1_500
    var sent: Int64 = 0
    for _ in 0..<40 {
      for (token, allowance) in allowances.enumerated() {
        for _ in 0..<15 {
          do {
            try allowance.spend(sent: Int(most / 15), received: 0, by: Int64(token))
            sent += most / 15
          } catch {}
        }
      }
      for allowance in allowances {
        let batch = allowance.report()
        allowance.answered(batch, left: sum.left(after: batch))
      }
    }
    #expect(sent >= 10_000)
    #expect(sent <= 10_000 + Int64(workers - 1) * most, "\(sent)")
    if workers == 1 { #expect(sent == 10_000) }
    print("\(workers) workers sent \(sent) of 10000 bytes, \(most) each between two reports")
  }
}
