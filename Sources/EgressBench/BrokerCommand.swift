import ArgumentParser
import BenchReport
import Broker
import Destinations
import Foundation
import Glibc
import Jobs
import Logging
import Synchronization

// The broker in a process of its own, as a worker has it: one session with one grant of mode opaque, a door for it and one for CONNECT.
// Its listeners are on this host's loopback instead of a cell's; which network namespace a listener is of makes no difference to what is
// accepted from it. Order: it prints the two ports and serves until its input ends.

struct BrokerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "broker", abstract: "The broker that is measured; started by the bench.", shouldDisplay: false)

  @Option(help: "Where the server listens, on 127.0.0.1.")
  var server: UInt16

  func run() async throws {
    let grant = try Grant(
      name: "server",
      json: [
        "host": .string(ServerCommand.name), "port": .integer(Int64(server)), "mode": "opaque",
        "allow_private": ["127.0.0.0/8"],
        // Enough that none is used up; they are counted all the same.
        "most": ["sent": "1024GiB", "received": "1024GiB", "connections": 100_000_000],
      ])
    let broker = try Broker(resolver: Loopback(), trust: .system, logger: Logger(label: "bench"))
    let (door, port) = try Self.listener()
    let (proxy, proxyPort) = try Self.listener()
    var limits = SessionLimits()
    // More connections are made than an attempt may.
    limits.ledgerLines = 100_000_000
    let sink = LedgerSink()
    let session = try await broker.open(
      AttemptAddress(job: "bench", attempt: 1, token: 1, tenant: "bench"), grants: [(grant, door)], proxy: proxy,
      limits: limits, credentials: NoCredentials()
    ) { sink.add($0.json) }
    let forwarding = Task { await sink.forward() }
    await Child.serve(at: port, proxyPort)
    forwarding.cancel()
    _ = await session.close()
  }

  private static func listener() throws -> (descriptor: Int32, port: Int) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw BenchError("socket: \(String(cString: strerror(errno)))") }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 128) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard isBound else { throw BenchError("a listener on 127.0.0.1: \(String(cString: strerror(errno)))") }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }
}

/// The server's only address.
private struct Loopback: NameResolver {
  func addresses(of name: String) async throws -> [IPAddress] { [IPAddress("127.0.0.1")].compactMap { $0 } }
}

/// Takes lines as a worker does, which sends them to the database in batches; here they are dropped instead.
private final class LedgerSink: Sendable {
  private let lines = Mutex<[String]>([])

  func add(_ line: String) { lines.withLock { $0.append(line) } }

  func forward() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: .milliseconds(250))
      lines.withLock { $0.removeAll() }
    }
  }
}
