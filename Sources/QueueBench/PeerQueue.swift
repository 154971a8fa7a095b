import BenchReport
import Jobs
import PrivateCluster

/// Another queue on PostgreSQL, driven from Python by its own interface.
struct PeerQueue: QueueContender {
  let name: String
  let server: QueueServer
  let driver: PeerDriver
  private let version: String
  private var settings: [(key: String, value: Int)] = []

  var database: String { "peer_\(name)" }
  var strategy: String {
    "\(version); " + settings.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
  }

  /// Asks the peer what it is; throws the reason where it cannot be had.
  init(_ name: String, server: QueueServer, driver: PeerDriver) async throws {
    self.name = name
    self.server = server
    self.driver = driver
    let answer = try await driver.run([name, "version"])
    guard case .string(let version) = answer["version"], case .object(let chosen) = answer["settings"] else {
      throw BenchError("\(name) did not say its version")
    }
    self.version = version
    settings = Self.numbers(chosen)
  }

  func with(_ other: [(key: String, value: Int)]) -> PeerQueue {
    var copy = self
    for pair in other {
      copy.settings.removeAll { $0.key == pair.key }
      copy.settings.append(pair)
    }
    copy.settings.sort { $0.key < $1.key }
    return copy
  }

  /// What a sweep measures beside the chosen settings.
  func tried() async throws -> [PeerQueue] {
    guard case .array(let all) = try await driver.run([name, "tried"])["tried"] else { return [] }
    return all.compactMap { one in
      guard case .object(let members) = one else { return nil }
      return with(Self.numbers(members))
    }
  }

  func prepare() async throws {
    try await server.cluster.createDatabase(database)
    _ = try await driver.run([name, "install", url])
  }

  func fill(_ jobs: Int) async throws -> Effort { try await effort("fill", ["--jobs", "\(jobs)"]) }

  func drain(_ jobs: Int, within seconds: Double) async throws -> Effort {
    try await effort("drain", ["--jobs", "\(jobs)", "--seconds", "\(seconds)"], within: seconds)
  }

  func clear() async throws { _ = try await driver.run([name, "clear", url]) }

  func pickups(_ samples: Int) async throws -> [Double] {
    let answer = try await driver.run([name, "pickup", url, "--samples", "\(samples)"], within: Double(samples))
    guard case .array(let latencies) = answer["latencies_us"] else { throw BenchError("\(name) measured no latency") }
    return latencies.compactMap(\.asDouble)
  }

  private var url: String { server.url(database) }

  private func effort(_ action: String, _ arguments: [String], within seconds: Double = 0) async throws -> Effort {
    let chosen = settings.flatMap { ["--set", "\($0.key)=\($0.value)"] }
    let answer = try await driver.run([name, action, url] + arguments + chosen, within: seconds)
    guard let jobs = answer["jobs"]?.asDouble, let seconds = answer["seconds"]?.asDouble, jobs > 0, seconds > 0 else {
      throw BenchError("\(name) did not say how its \(action) went")
    }
    return Effort(jobs: Int(jobs), seconds: seconds, roundTrips: answer["round_trips"]?.asDouble.map { Int($0) })
  }

  private static func numbers(_ members: [String: JSONValue]) -> [(key: String, value: Int)] {
    members.compactMap { key, value in value.asDouble.map { (key, Int($0)) } }.sorted { $0.0 < $1.0 }
  }
}
