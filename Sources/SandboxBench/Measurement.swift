import BenchReport
import Jobs

/// One block of the benchmark, pinned or not: all contenders, started anew so that wardens inherit the processors.
struct Measurement {
  struct Plan {
    var rounds: Int
    /// How long runs are begun for one sustained rate.
    var window: Duration
    /// Rates of which the median is taken.
    var repeats: Int

    static let inFlight = [1, 4, 8]

    /// Long enough for what is done off the critical path on one processor: an interpreter is started in 20 ms.
    static func pause(_ program: Program) -> Duration {
      program == .nothing ? .milliseconds(3) : .milliseconds(40)
    }
  }

  let scratch: String
  let peers: Peers
  let limits: Limits
  let plan: Plan
  let pinned: Bool

  func run(into results: inout Results) async throws {
    var cordon: [CordonContender] = []
    do {
      for kind in CordonContender.Kind.allCases {
        cordon.append(try await CordonContender(kind, place: CordonPlace(scratch: scratch), limits: limits))
      }
      try await measure(cordon, into: &results)
    } catch {
      await close(cordon)
      throw error
    }
    await close(cordon)
  }

  private func close(_ cordon: [CordonContender]) async {
    for contender in cordon { await contender.close() }
    for peer in peers.contenders { await peer.close() }
  }

  private func measure(_ cordon: [CordonContender], into results: inout Results) async throws {
    let floor = try FloorContender()
    defer { floor.close() }
    let waiting = WaitingContender(.nothing)
    let all: [any Contender] = [try Peers.plain(scratch: scratch), waiting, floor] + cordon + peers.contenders
    let contenders = pinned ? try await confirmed(all, &results) : all.filter { isPresent($0, results) }
    for program in [Program.nothing, .python, .script] {
      Progress.line("latency of \(program.name), \(plan.rounds) rounds of \(contenders.count) contenders")
      let samples = try await LatencyRun(
        contenders: contenders, program: program, rounds: plan.rounds, pause: Plan.pause(program)
      ).samples()
      let rates = try await rates(contenders.filter { $0.offers(program) }, program)
      let plain = samples["plain"]?.map(\.total).median
      for contender in contenders where contender.offers(program) {
        var row = Row(contender: contender.name, program: program.name, pinned: pinned, note: contender.note)
        row.latencies = samples[contender.name] ?? []
        row.rates = rates[contender.name] ?? [:]
        if let plain, let mine = row.p50 { row.overPlain = mine / plain }
        results.rows.append(row)
      }
    }
    await waiting.close()
    if pinned, let pool = cordon.first(where: { $0.name == "cordon pool" }) {
      Progress.line("latency with many cells alive")
      results.alive = try await AliveCells(
        contender: pool, others: [try Peers.plain(scratch: scratch), floor], rounds: plan.rounds,
        pause: Plan.pause(.nothing)
      ).measure()
      for contender in cordon where contender.name != "cordon cold" {
        let program = contender.offers(.nothing) ? Program.nothing : .script
        results.waiting += try await WaitingCells.measure(contender, program).map { [$0] } ?? []
      }
    }
  }

  private func isPresent(_ contender: any Contender, _ results: Results) -> Bool {
    !results.absent.contains { $0.name == contender.name }
  }

  /// Those that are what they are called: whose limits hold, as the probes say, and whose interpreters
  /// were warm. The numbers of others would be another thing's.
  private func confirmed(_ contenders: [any Contender], _ results: inout Results) async throws -> [any Contender] {
    var confirmed: [any Contender] = []
    for contender in contenders {
      try Interrupt.check()
      if let reason = await doubt(contender) {
        results.absent.append(Absentee(name: contender.name, reason: reason))
      } else {
        confirmed.append(contender)
      }
    }
    return confirmed
  }

  private func doubt(_ contender: any Contender) async -> String? {
    for probe in Program.probes where contender.limitsResources && contender.offers(probe.beyond) {
      if (try? await contender.run(probe.beyond, slot: 0)) != nil {
        return "its limit does not hold here: \(probe.limit)"
      }
      do {
        _ = try await contender.run(probe.within, slot: 0)
      } catch {
        return "it does not run what is within the limit of \(probe.limit): \(error)"
      }
    }
    if contender.offers(.importedAlready) {
      do { _ = try await contender.run(.importedAlready, slot: 0) } catch {
        return "its interpreter was not warm: \(error)"
      }
    }
    return contender.offers(.forked) ? await doubtThatItForks(contender) : nil
  }

  /// Until its zygote is ready, a cell has an interpreter of its own.
  private func doubtThatItForks(_ contender: any Contender) async -> String? {
    let deadline = ContinuousClock.now + .seconds(20)
    while true {
      do {
        _ = try await contender.run(.forked, slot: 0)
        return nil
      } catch {
        if ContinuousClock.now > deadline { return "its interpreter was not forked: \(error)" }
      }
      try? await Task.sleep(for: .milliseconds(50))
    }
  }

  private func rates(_ contenders: [any Contender], _ program: Program) async throws -> [String: [Int: SustainedRun
    .Rate]]
  {
    var found: [String: [Int: [SustainedRun.Rate]]] = [:]
    for turn in 0..<plan.repeats {
      Progress.line("sustained rate of \(program.name), \(turn + 1) of \(plan.repeats)")
      for inFlight in Plan.inFlight {
        for index in LatencyRun.order(turn, of: contenders.count) {
          let contender = contenders[index]
          let run = SustainedRun(contender: contender, program: program, inFlight: inFlight, window: plan.window)
          found[contender.name, default: [:]][inFlight, default: []].append(try await run.rate())
        }
      }
    }
    return found.mapValues { $0.mapValues(SustainedRun.Rate.median) }
  }
}

extension SustainedRun.Rate {
  /// Of each figure by itself.
  static func median(_ rates: [SustainedRun.Rate]) -> SustainedRun.Rate {
    SustainedRun.Rate(
      perSecond: rates.map(\.perSecond).median ?? .nan, processes: rates.map(\.processes).median ?? .nan,
      machine: rates.map(\.machine).median ?? .nan)
  }
}
