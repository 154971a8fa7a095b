import FaultHistory
import Foundation
import Synchronization

// Theory of operation
//
//   database namespace                       namespace of worker N
//   10.0.N.1/30  workerN ================ database  10.0.N.2/30
//   its proxies: ports 5432 and 5433
//
// A packet is lost where it arrives, at either end. One that is dropped where it is sent is no loss to TCP: the kernel
// tells the sender so, and it is not in flight. At each end there is one table, `faults`, of netfilter. A fault puts a
// chain of its own into both and takes it out again, so that faults overlap as they come: a packet has to pass every
// chain. The tables' counters tell how many did not, by kind.

/// The networks between the workers and the database.
final class FleetNetwork: Sendable {
  /// Where the proxies listen.
  let database: NetworkNamespace
  /// Where the Nth worker runs.
  let workers: [NetworkNamespace]
  private let log: String
  private let faults = Atomic(0)

  private static let losses: [FaultKind] = [.losePackets, .partition, .promoteReplica]
  private static let addressLength = 30

  /// The database's address for that worker.
  static func address(for worker: Int) -> String { "10.0.\(worker).1" }

  /// - Parameter log: what the programs that set it up say.
  static func make(workers count: Int, log: String) async throws -> FleetNetwork {
    let network = FleetNetwork(
      database: try NetworkNamespace(), workers: try (0..<count).map { _ in try NetworkNamespace() }, log: log)
    try await network.rule(network.database, network.table)
    for (number, worker) in network.workers.enumerated() {
      try await network.ip(
        worker, "link add name database type veth peer name worker\(number) netns \(network.database.path)")
      try await network.raise(network.database, "worker\(number)", address(for: number))
      try await network.raise(worker, "database", "10.0.\(number).2")
      try await network.rule(worker, network.table)
      // Whether this kernel can draw lots is known before the first fault, not by one that never was.
      try await network.drop(1, .losePackets, of: [number]) {}
    }
    return network
  }

  private init(database: NetworkNamespace, workers: [NetworkNamespace], log: String) {
    self.database = database
    self.workers = workers
    self.log = log
  }

  /// Loses that many of a thousand packets between workers and the database, each way, while `body` goes on.
  /// - Parameter port: the database's, where not all are meant.
  func drop(
    _ lost: Int, _ kind: FaultKind, of workers: [Int], port: UInt16? = nil, while body: @Sendable () async -> Void
  ) async throws {
    let fault = faults.wrappingAdd(1, ordering: .relaxed).newValue
    let ends = workers.flatMap { [(self.workers[$0], "database", "sport"), (database, "worker\($0)", "dport")] }
    let lot = lost < 1_000 ? "numgen random mod 1000 < \(lost)" : ""
    for (end, interface, side) in ends {
      let chain = "fault\(fault)\(interface)"
      let traffic = port.map { "tcp \(side) \($0)" } ?? ""
      try await rule(
        end,
        """
        add chain inet faults \(chain) { type filter hook input priority filter; }; \
        add rule inet faults \(chain) iifname \(interface) \(traffic) \(lot) counter name \(kind) drop
        """)
    }
    await body()
    for (end, interface, _) in ends {
      let chain = "fault\(fault)\(interface)"
      try await rule(end, "flush chain inet faults \(chain); delete chain inet faults \(chain)")
    }
  }

  /// Packets that were lost so far, by the kind of fault.
  func dropped() async throws -> [String: Int] {
    var packets: [String: Int] = [:]
    for end in workers + [database] {
      let answer = try await StartedProcess.answer(
        "/usr/sbin/nft", ["--json", "list", "counters", "table", "inet", "faults"], in: end, log: log)
      for counter in try JSONDecoder().decode(Listing.self, from: answer).nftables.compactMap(\.counter) {
        packets[counter.name, default: 0] += counter.packets
      }
    }
    return packets
  }

  /// libnftables-json(5), of which only the counters matter here.
  private struct Listing: Decodable {
    var nftables: [Object]

    struct Object: Decodable {
      var counter: Counter?
    }

    struct Counter: Decodable {
      var name: String
      var packets: Int
    }
  }

  private var table: String {
    "add table inet faults; " + Self.losses.map { "add counter inet faults \($0)" }.joined(separator: "; ")
  }

  private func raise(_ namespace: NetworkNamespace, _ interface: String, _ address: String) async throws {
    try await ip(namespace, "address add \(address)/\(Self.addressLength) dev \(interface)")
    try await ip(namespace, "link set \(interface) up")
  }

  private func ip(_ namespace: NetworkNamespace, _ words: String) async throws {
    try await StartedProcess.run("/usr/sbin/ip", words.split(separator: " ").map(String.init), in: namespace, log: log)
  }

  private func rule(_ namespace: NetworkNamespace, _ rules: String) async throws {
    try await StartedProcess.run("/usr/sbin/nft", [rules], in: namespace, log: log)
  }
}
