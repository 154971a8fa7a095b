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
  @Option(
    name: .customLong("try"), help: "SQL to run after the migrations: a change that is to be measured before it is one."
  )
  var trial: String?
  @Option(help: "The Python that has the peers installed. Default: none, and every peer is absent.")
  var python: String?
  @Option(help: "The driver that runs the peers.")
  var driver = "ops/bench-peers/driver.py"

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

    let contest = Contest(server: server, plan: plan, contenders: contenders)
    try await contest.drain(into: &results)
    try await contest.pickup(cordon.home, peers, into: &results)
    try await Disturbances(server: server, plan: plan).run(into: &results)
    try await Telling(server: server, plan: plan).run(into: &results)
    try await sandboxed(server, plan, &results)
    try await Lanes(server: server, plan: plan).run(into: &results)
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      print(String(decoding: try encoder.encode(results.json), as: UTF8.self))
    } else {
      print(results.text, terminator: "")
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
