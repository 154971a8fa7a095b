import ArgumentParser
import BenchReport
import Foundation
import Jobs

struct EgressCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "egress", abstract: "The broker, no broker, and squid between a TLS client and a TLS server.")

  @Flag(help: "One JSON object on stdout instead of the tables.")
  var json = false
  @Flag(help: "A rough look in some seconds: less of everything; numbers are not stable.")
  var quick = false
  @Option(help: "Only this kind of scenario: stream, echo or connect; repeat for more.")
  var only: [Scenario.Kind] = []

  func run() async throws {
    Interrupt.listen()
    let plan = quick ? Plan.quick : Plan.full
    let scratch = FileManager.default.temporaryDirectory.path + "/cordon-bench-\(UUID().uuidString)"
    // Squid reads its files as a user of its own.
    try FileManager.default.createDirectory(
      atPath: scratch, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    let certificate = scratch + "/certificate.pem"
    let server = try Child(["server", "--certificate", certificate])
    defer { server.end() }
    guard let port = server.ports.first else { throw BenchError("the server says no port") }
    let broker = try Child(["broker", "--server", "\(port)"])
    defer { broker.end() }
    guard broker.ports.count == 2 else { throw BenchError("the broker says no ports") }

    var results = EgressResults(plan: plan)
    let target = "\(ServerCommand.name):\(port)"
    var ways = [
      Way(name: "direct", remark: "nobody between", port: port),
      Way(name: "opaque", remark: "the broker, at the grant's own door", port: broker.ports[0]),
      Way(name: "connect", remark: "the broker, at its door for CONNECT", port: broker.ports[1], tunnel: target),
    ]
    var squid: Squid?
    do {
      let peer = try await Squid(server: port, in: scratch)
      squid = peer
      ways.append(
        Way(name: "squid", remark: "\(peer.version), CONNECT, no cache, no log", port: peer.port, tunnel: target))
    } catch {
      results.absent = "\(error)"
    }
    defer { squid?.end() }

    let client = try Client(certificate: certificate)
    let contest = Contest(plan: plan, client: client, ways: ways)
    for scenario in Scenario.all where only.isEmpty || only.contains(scenario.kind) {
      try await contest.run(scenario, into: &results)
    }
    await client.close()
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      print(String(decoding: try encoder.encode(results.json), as: UTF8.self))
    } else {
      print(results.text, terminator: "")
    }
  }
}

extension Scenario.Kind: ExpressibleByArgument {}
