import ArgumentParser
import BenchReport
import Foundation
import Jobs

struct QueueCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "queue", abstract: "Cordon, a raw libpq loop and the peers on one durable PostgreSQL.")

  @Flag(help: "One JSON object on stdout instead of the tables.")
  var json = false
  @Flag(help: "A rough look in a few minutes: fewer jobs, fewer rows; numbers are not stable.")
  var quick = false
  @Flag(help: "Only enqueue and drain, each contender with every setting that was tried for it.")
  var sweep = false
  @Option(help: "A part to measure, all others left out; repeat for more.")
  var only: [Part] = []
  @Option(name: .customLong("try"), help: "SQL to run after the migrations, to measure a change before it is one.")
  var trial: String?
  @Option(help: "The Python that has the peers installed. Default: none, and every peer is absent.")
  var python: String?
  @Option(help: "The driver that runs the peers.")
  var driver = "ops/bench-peers/driver.py"

  enum Part: String, CaseIterable, ExpressibleByArgument {
    case drain, pickup, disturbed, notify, sandboxed, lanes
  }

  static let peers = ["pgqueuer", "procrastinate", "oban"]

  func run() async throws {
    Interrupt.listen()
    let plan = quick ? Plan.quick : Plan.full
    var results = QueueResults(plan: plan, trial: trial)
    let server = try await QueueServer.start()
    defer { server.remove() }
    results.commit = try await server.commitLatency()
    let changes = try trial.map { try String(contentsOfFile: $0, encoding: .utf8) }
    try await CordonDatabase.makeTemplate(server, trial: changes)
    let cordon = CordonQueue(home: CordonDatabase(server: server, name: "cordon"))
    let floor = FloorQueue(cordon: CordonQueue(home: CordonDatabase(server: server, name: "floor")))
    let peers = try await peers(server, &results)
    let contenders: [any QueueContender] = [cordon, floor] + peers
    for contender in contenders { try await contender.prepare() }
    if sweep {
      var brief = plan
      if quick { brief.rounds = 1 }
      try await Sweep(server: server, plan: brief).run(cordon, peers, into: &results)
    } else {
      try await measure(cordon, peers, contenders, &results)
    }
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      print(String(decoding: try encoder.encode(results.json), as: UTF8.self))
    } else {
      print(sweep ? results.table(of: [.bulk, .drain]) : results.text, terminator: "")
    }
  }

  private func measure(
    _ cordon: CordonQueue, _ peers: [PeerQueue], _ contenders: [any QueueContender], _ results: inout QueueResults
  ) async throws {
    let (server, plan) = (cordon.home.server, results.plan)
    let contest = Contest(server: server, plan: plan, contenders: contenders)
    for part in Part.allCases where only.isEmpty || only.contains(part) {
      switch part {
      case .drain: try await contest.drain(into: &results)
      case .pickup: try await contest.pickup(cordon.home, peers, into: &results)
      case .disturbed: try await Disturbances(server: server, plan: plan).run(into: &results)
      case .notify: try await Telling(server: server, plan: plan).run(into: &results)
      case .sandboxed: try await sandboxed(server, plan, &results)
      case .lanes: try await Lanes(server: server, plan: plan).run(into: &results)
      }
    }
  }

  private func sandboxed(_ server: QueueServer, _ plan: Plan, _ results: inout QueueResults) async throws {
    let own = URL(fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    let warden = own.deletingLastPathComponent().appending(path: "cordon-warden").path
    guard geteuid() == 0, FileManager.default.isExecutableFile(atPath: warden) else {
      results.missing["sandboxed_over_cells"] = "needs root, and cordon-warden beside this program"
      return
    }
    let scratch = FileManager.default.temporaryDirectory.path + "/cordon-bench-\(getpid())"
    try FileManager.default.createDirectory(
      atPath: scratch, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    try await Sandboxed(server: server, plan: plan, scratch: scratch, warden: warden).run(into: &results)
  }

  /// Those that can be had; who cannot is named.
  private func peers(_ server: QueueServer, _ results: inout QueueResults) async throws -> [PeerQueue] {
    guard let python else {
      results.absent += Self.peers.map { Absentee(name: $0, reason: "no Python was named (--python)") }
      return []
    }
    var found: [PeerQueue] = []
    for name in Self.peers {
      do {
        found.append(try await PeerQueue(name, server: server, driver: PeerDriver(python: python, driver: driver)))
      } catch {
        results.absent.append(Absentee(name: name, reason: "\(error)"))
      }
    }
    return found
  }
}
