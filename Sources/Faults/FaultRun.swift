import FaultHistory
import Foundation
import Postgres
import Store

/// One run from the first job to the verdict.
struct FaultRun {
  let fleet: Fleet
  let plan: FaultPlan
  /// How long the fleet may take to finish anything of what it owes once all is well again. A long script leaves much behind, and
  /// how much is no fault; to stand still is one.
  let patience: Duration
  let report: @Sendable (String) -> Void

  struct Outcome: Sendable, Encodable {
    var seed: UInt64
    var faults: [String: Int]
    var seconds: Double
    var jobs: Int
    var fired: Int
    var attempts: [String: Int]
    var rescued: Int
    var late: Int
    var answersLost: Int
    /// By the kind of fault.
    var packetsDropped: [String: Int]
    var promotions: Int
    var workerExits: [String: Int]
    var findings: [String]
  }

  private static let producers = 4

  /// Nothing is owed and all is settled, or nothing has moved for as long as patience lasts.
  private func waitUntilSettled() async throws -> (owed: Int?, unsettled: [String]) {
    var least = Int.max
    var limit = ContinuousClock.now + patience
    while true {
      let (owed, unsettled) = (try? await fleet.owed(), fleet.unsettled())
      if owed == 0 && unsettled.isEmpty || .now >= limit { return (owed, unsettled) }
      let left = (owed ?? .max / 2) + unsettled.count
      if left < least {
        least = left
        limit = .now + patience
      }
      try await Task.sleep(for: .milliseconds(200))
    }
  }

  func perform() async throws -> Outcome {
    let began = try await fleet.moment()
    let clock = ContinuousClock.now
    try await fleet.setSchedule()
    fleet.serve()
    let store = Store(pool: fleet.producers)
    let producer = Producer(store: store, ledger: fleet.ledger, seed: plan.seed, pace: .milliseconds(400))
    let end = Ending()
    let producing = (0..<Self.producers).map { number in
      Task { try await producer.run(number, of: Self.producers, until: end) }
    }
    defer { for task in producing { task.cancel() } }
    try await untilServing()
    try await inject()
    try Task.checkCancellation()
    report("the script is over; all is made well again")
    try await fleet.startServer()
    end.raise()
    for task in producing { try await task.value }
    try await fleet.pauseSchedule()
    let (owed, unsettled) = try await waitUntilSettled()
    var findings: [String] = []
    if owed != 0 || !unsettled.isEmpty {
      findings.append(
        "broken: a fleet that is well finishes what it owes: "
          + "\(owed.map(String.init) ?? "nobody knows how many") jobs, and to settle: \(unsettled)")
    }
    let exits = await fleet.closeWorkers()
    findings += exits.enumerated().filter { $0.element != 0 }.map {
      "broken: a worker leaves when it is asked to: worker \($0.offset) \($0.element.map { "ended with \($0)" } ?? "had to be killed")"
    }
    let history = try await fleet.history(began: began)
    findings += HistoryChecker(history).check().map(\.description)
    var workerExits: [String: Int] = [:]
    for worker in fleet.workers {
      for (code, count) in await worker.ends {
        workerExits["\(code)", default: 0] += count
        // Whatever is done to it, a worker may give up, and then says so.
        guard code > 128 else { continue }
        findings.append("broken: no worker crashes: worker \(worker.number) did, by signal \(code - 128)")
      }
    }
    return Outcome(
      seed: plan.seed, faults: count(plan.faults.map(\.kind.rawValue)),
      seconds: (ContinuousClock.now - clock) / .seconds(1), jobs: history.acknowledged.count,
      fired: history.jobs.filter { $0.firedFor != nil }.count,
      attempts: count(history.attempts.map(\.outcome)), rescued: history.events.filter { $0.what == "rescued" }.count,
      late: history.events.filter { $0.what == "late" }.count,
      answersLost: fleet.proxies.joined().map(\.lost).reduce(0, +),
      packetsDropped: try await fleet.network.dropped(),
      promotions: fleet.promotions, workerExits: workerExits, findings: findings)
  }

  private func count(_ words: [String]) -> [String: Int] {
    Dictionary(words.map { ($0, 1) }, uniquingKeysWith: +)
  }

  /// Faults before anybody serves would only delay the start.
  private func untilServing() async throws {
    // Not what the fleet may owe at the end: every worker proves its boundary first, all at once.
    let end = ContinuousClock.now + max(patience, .seconds(120))
    while ContinuousClock.now < end {
      let rows = try await fleet.ask("SELECT count(*) AS serving FROM cordon.worker")
      if try rows.first?.get("serving", as: Int.self) == fleet.workers.count { return }
      try await Task.sleep(for: .milliseconds(100))
    }
    throw FaultError("the workers do not serve; see \(fleet.directory)/worker-0.log")
  }

  private func inject() async throws {
    let began = ContinuousClock.now
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (number, fault) in plan.faults.enumerated() {
        try? await Task.sleep(until: began + fault.at, clock: .continuous)
        guard !Task.isCancelled else { break }
        let share = fault.kind == .losePackets ? ", \(fault.lost) of 1000" : ""
        let what = "\(fault.kind.rawValue) worker \(fault.worker) for \(fault.length)\(share)"
        report("\(number + 1)/\(plan.faults.count) \(what)")
        group.addTask { try await fleet.inject(fault) }
      }
      try await group.waitForAll()
    }
  }
}
