import BenchReport
import Jobs
import Sandbox

/// Whether a start takes longer the more cells are alive: latency with few sleeping cells, with many, and with few
/// again, so that a drift of the machine is not taken for an effect. What has no cell stands beside it in the same
/// rounds: the kernel walks a list of every filesystem's caches for each memory group that goes, and every cell has some
/// filesystems, so that whoever removes groups beside many cells is slower.
struct AliveCells {
  let contender: CordonContender
  let others: [any Contender]
  let rounds: Int
  let pause: Duration
  let few = 5
  let many = 500

  struct Result: Sendable {
    var few: [Latency] = []
    var many: [Latency] = []
    /// Of the others, by name.
    var fewBeside: [String: [Latency]] = [:]
    var manyBeside: [String: [Latency]] = [:]
    /// How many of the many could be had; fewer where a warden has not enough uids.
    var alive = 0

    /// The worse of two: until the job is about to run, and until the report.
    var ratio: Double? {
      let ratios = [\Latency.started, \.optionalTotal].compactMap { path -> Double? in
        guard let low = few.compactMap({ $0[keyPath: path] }).median,
          let high = many.compactMap({ $0[keyPath: path] }).median
        else { return nil }
        return high / low
      }
      return ratios.max()
    }

    func ratio(beside name: String) -> Double? {
      guard let low = fewBeside[name]?.map(\.total).median, let high = manyBeside[name]?.map(\.total).median
      else { return nil }
      return high / low
    }
  }

  func measure() async throws -> Result {
    var result = Result()
    var sleepers: [RunningCell] = []
    do {
      try await fill(&sleepers, to: few)
      add(try await samples(), to: &result.few, &result.fewBeside)
      try await fill(&sleepers, to: many)
      result.alive = sleepers.count
      add(try await samples(), to: &result.many, &result.manyBeside)
      try await empty(&sleepers, to: few)
      add(try await samples(), to: &result.few, &result.fewBeside)
      try await empty(&sleepers, to: 0)
      return result
    } catch {
      try? await empty(&sleepers, to: 0)
      throw error
    }
  }

  private func samples() async throws -> [String: [Latency]] {
    try await LatencyRun(contenders: [contender] + others, program: .nothing, rounds: rounds, pause: pause).samples()
  }

  private func add(_ samples: [String: [Latency]], to own: inout [Latency], _ beside: inout [String: [Latency]]) {
    own += samples[contender.name] ?? []
    for other in others { beside[other.name, default: []] += samples[other.name] ?? [] }
  }

  private func fill(_ sleepers: inout [RunningCell], to count: Int) async throws {
    while sleepers.count < count {
      try Interrupt.check()
      do {
        sleepers.append(try await contender.start(.sleep))
      } catch let error as SandboxError where sleepers.count > 2 * Self.reserve {
        Progress.line("only \(sleepers.count) cells fit: \(error)")
        // The measured cells, and those that wait for them, need room too.
        return try await empty(&sleepers, to: sleepers.count - Self.reserve)
      }
    }
    try await Task.sleep(for: .milliseconds(500))
  }

  private func empty(_ sleepers: inout [RunningCell], to count: Int) async throws {
    let leaving = sleepers.dropFirst(count)
    for cell in leaving { cell.stop(.abandoned) }
    for cell in leaving { _ = try? await cell.report() }
    sleepers.removeLast(leaving.count)
    try await contender.settle(prepared: 0)
    try await Task.sleep(for: .milliseconds(500))
  }

  private static let reserve = 2 * slots
}

extension Latency {
  var optionalTotal: Double? { total }
}
