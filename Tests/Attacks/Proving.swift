import Foundation
import Jobs
import TestKit

/// Runs all cases, some at a time, on one house, and keeps what did not hold by the case's id.
struct Proving: Sendable {
  /// Cases at once; two more slots are the neighbours'.
  private static let atOnce = 6
  /// Once for the process, whichever test asks first.
  static let shared = Task { try await Proving.run(Catalogue.selected) }

  private let attackHouse: AttackHouse
  private let host: CleanHost

  /// What did not hold, by id.
  static func run(_ cases: [AttackCase]) async throws -> [String: [String]] {
    guard !cases.isEmpty else { return [:] }
    if WorkerUser.isOrdinary { WorkerUser.printLeftOut() }
    let house = try await AttackHouse(
      slots: atOnce + 2, upstream: try Granted.upstream.get())
    try await AttackRuntime.prepare(house)
    let proving = Proving(attackHouse: house, host: try await CleanHost(house))
    var failures: [String: [String]] = [:]
    var together = cases.filter { !$0.isAlone }[...]
    while !together.isEmpty {
      let round = together.prefix(atOnce)
      together = together.dropFirst(atOnce)
      failures.merge(try await proving.round(Array(round))) { $0 + $1 }
    }
    for attack in cases where attack.isAlone { failures.merge(try await proving.round([attack])) { $0 + $1 } }
    try await house.close()
    return failures
  }

  /// What one case's job left behind to be judged once the round is over.
  private struct Account: Sendable {
    var id: String
    var failures: [String]
    var evidence: Evidence?
  }

  private func round(_ cases: [AttackCase]) async throws -> [String: [String]] {
    let neighbours = Neighbours(attackHouse)
    await neighbours.start()
    try await neighbours.areThere()
    let accounts = await withTaskGroup(of: Account.self) { group in
      for attack in cases { group.addTask { await account(of: attack) } }
      return await group.reduce(into: [Account]()) { $0.append($1) }
    }
    let witnesses: [Neighbours.Witness]
    var common: [String] = []
    do {
      witnesses = try await neighbours.stop()
    } catch {
      witnesses = []
      common.append("the neighbours: \(error)")
    }
    common += await host.problems(users: Set(accounts.compactMap { $0.evidence?.uid }))
    var failures: [String: [String]] = [:]
    for account in accounts {
      let own = account.failures + common.map { "in its round: \($0)" } + beside(account.evidence, witnesses)
      if ProcessInfo.processInfo.environment["CORDON_ATTACK_VERBOSE"] != nil {
        print(own.isEmpty ? "attack \(account.id) holds" : "attack \(account.id): \(own.joined(separator: "; "))")
      }
      failures[account.id] = own
    }
    return failures
  }

  /// The neighbours that ran while the attack did.
  private func beside(_ evidence: Evidence?, _ witnesses: [Neighbours.Witness]) -> [String] {
    guard let evidence, let from = try? time(ofRecord: evidence.record["started_at"]),
      let to = try? time(ofRecord: evidence.record["finished_at"])
    else { return [] }
    let beside = witnesses.filter { $0.started < to && $0.finished > from }
    if beside.isEmpty { return ["no neighbour ran beside it"] }
    return beside.compactMap(\.problem).map { "a neighbour: \($0)" }
  }

  private func account(of attack: AttackCase) async -> Account {
    var verdict = Verdict()
    var evidence: Evidence?
    do {
      let place = try Place()
      defer { place.remove() }
      let undo = try attack.prepare(place)
      defer { undo() }
      let specification = try attack.payload.specification(
        attack.arguments(place), label: attack.id, asks: attack.asks)
      var found = try await attackHouse.evidence(specification, place)
      // While one zygote follows another, cells have an interpreter of their own; and where the disk stands still, a
      // short job may find a moment between two neighbours.
      for _ in 0..<3 {
        if AttackRuntime.problem(found) == nil, try await Neighbours.were(beside: found) { break }
        try await Task.sleep(for: .milliseconds(500))
        found = try await attackHouse.evidence(specification, place)
      }
      evidence = found
      try await judge(found, attack, &verdict)
      try await attack.expect(found, &verdict)
      for failure in try await control(of: attack, place) { verdict.fail("the control: \(failure)") }
    } catch {
      verdict.fail("\(error)")
    }
    return Account(id: attack.id, failures: verdict.failures, evidence: evidence)
  }

  /// One final row, and a record that says who, what and how it was confined.
  private func judge(_ evidence: Evidence, _ attack: AttackCase, _ verdict: inout Verdict) async throws {
    for problem in try await attackHouse.rowProblems(of: evidence.job, attack: attack.id) { verdict.fail(problem) }
    let attribution = evidence.record["attribution"]
    verdict.equal(evidence.record["attempt"], .integer(1), "the attempt's number")
    verdict.equal(attribution?["enqueued_by"], .string("cordon_local"), "who enqueued it")
    verdict.require(attribution?["isolation"]?["filter"]?.string != nil, "the record names no filter")
    verdict.equal(
      attribution?["isolation"]?["waivers"], .array(WorkerUser.waivers.map(JSONValue.string)), "waivers")
    if let problem = AttackRuntime.problem(evidence) { verdict.fail(problem) }
    if evidence.outcome != "refused" { verdict.require(evidence.uid != nil, "the record names no uid") }
  }

  private func control(of attack: AttackCase, _ place: Place) async throws -> [String] {
    var verdict = Verdict()
    switch attack.control {
    case .within: break
    case .host(let user, let wrapper, let arguments, let check):
      let words = (arguments ?? attack.arguments)(place)
      let evidence = try await Unconfined(
        payload: attack.payload, arguments: words, user: user, wrapper: wrapper, place: place
      ).run()
      try await check(evidence, &verdict)
      if !verdict.failures.isEmpty {
        verdict.fail("it printed \(evidence.stdout.suffix(300)) \(evidence.stderr.suffix(300))")
      }
    case .cell(let asks, let arguments, let check):
      let specification = try attack.payload.specification(
        (arguments ?? attack.arguments)(place), label: attack.id, asks: attack.asks.merging(asks) { _, new in new })
      let evidence = try await attackHouse.evidence(specification, place)
      try await check(evidence, &verdict)
    }
    return verdict.failures
  }
}
