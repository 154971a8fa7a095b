import BenchReport

/// Every contender once a round, so that what the machine does meanwhile meets all of them alike.
///
/// The order is a row of a balanced square: it rotates from round to round, and each contender follows each other one
/// equally often, because what one leaves to be done by the kernel later falls upon whoever comes next. The pause
/// after every sample is the same for all; in it a pool is refilled, as between real arrivals.
struct LatencyRun {
  let contenders: [any Contender]
  let program: Program
  let rounds: Int
  let pause: Duration

  /// Rounds that are not counted: pages are read, pools learn what is asked for.
  private static let warmUp = 4

  func samples() async throws -> [String: [Latency]] {
    var samples: [String: [Latency]] = [:]
    let taking = contenders.filter { $0.offers(program) }
    for round in -Self.warmUp..<rounds {
      for index in Self.order(round + Self.warmUp, of: taking.count) {
        try Interrupt.check()
        let latency = try await taking[index].run(program, slot: 0)
        if round >= 0 { samples[taking[index].name, default: []].append(latency) }
        try await Task.sleep(for: pause)
      }
      if round > 0, round % 50 == 0 { Progress.line("\(program.name): round \(round) of \(rounds)") }
    }
    return samples
  }

  /// Row `round` of the square: 0, 1, n-1, 2, n-2, … shifted by the round; every second time around mirrored, which
  /// balances odd numbers of contenders too.
  static func order(_ round: Int, of count: Int) -> [Int] {
    let row = (0..<count).map { index in
      let step = index % 2 == 0 ? -index / 2 : (index + 1) / 2
      return ((step + round) % count + count) % count
    }
    return round / max(1, count) % 2 == 0 ? row : row.reversed()
  }
}

/// How many runs a second a contender keeps up, with all work counted: from nothing begun to nothing left of any run,
/// and as much prepared as there was before.
struct SustainedRun {
  let contender: any Contender
  let program: Program
  let inFlight: Int
  /// How long runs are begun.
  let window: Duration

  struct Rate: Sendable {
    var perSecond: Double
    /// Milliseconds a run.
    var processes: Double
    var machine: Double
  }

  func rate() async throws -> Rate {
    // A pool learns how many are asked for at once; what it kept for another demand it would give up meanwhile.
    _ = try await count(for: window / 8)
    // What earlier runs left to the kernel is not this one's.
    try await Task.sleep(for: .milliseconds(200))
    let prepared = try contender.prepared()
    let before = try CPUTime.now(wardens: contender.wardens)
    let begin = ContinuousClock.now
    let count = try await count(for: window)
    let elapsed = try await contender.settle(prepared: prepared) - begin
    let used = try CPUTime.now(wardens: contender.wardens) - before
    return Rate(
      perSecond: Double(count) / (elapsed / .seconds(1)), processes: used.processes * 1e3 / Double(count),
      machine: used.machine * 1e3 / Double(count))
  }

  private func count(for span: Duration) async throws -> Int {
    try Interrupt.check()
    let end = ContinuousClock.now + span
    let count = try await withThrowingTaskGroup(of: Int.self) { group in
      for slot in 0..<inFlight {
        group.addTask {
          try await contender.runs(program, slot: slot) { ContinuousClock.now < end && !Interrupt.isRequested }
        }
      }
      return try await group.reduce(0, +)
    }
    try Interrupt.check()
    return count
  }
}
