import Foundation
import Jobs
import TestKit

// Theory of operation
//
//   the cell            a job's own clients, which know the names of their grants and nothing of the town
//   the house's worker  in the town's place, with its broker: resolves by the town's name server, verifies by its authority,
//                       asks its Vault for the index's bearer, and reads the other secrets from files
//   the town's hosts    verify and record what they are asked; each test compares that with the job's own ledger
//   the trap            a listener of the host itself, at the host's end of the link, which only a mistake dials
//
// One of each serves all tests, which run one after another, so whatever a host records between two moments is the test's.

/// A town, and a house whose jobs may be granted its hosts.
struct TownHouse: Sendable {
  let town: Town
  let house: House
  let index: Town.Index
  let logs: Town.Logs
  let store: Town.ObjectStore
  let vault: Town.Vault
  let names: Town.Names
  let trap: Trap
  let secrets: Secrets

  static let shared = Task { try await TownHouse() }

  /// What no job ever has.
  struct Secrets: Sendable {
    /// The bearer that the index demands, and another one.
    let index = "town-index-\(UUID().uuidString)"
    let rotated = "town-rotated-\(UUID().uuidString)"
    let ingest = "town-ingest-\(UUID().uuidString)"

    /// Where in Vault the index's bearer is.
    static let path = "apps/index"
    static let turningPath = "apps/turning"
  }

  private init() async throws {
    town = try await Town()
    secrets = Secrets()
    index = try await town.index(demanding: "Bearer \(secrets.index)")
    (logs, store) = (try await town.logs(), try await town.store())
    (vault, names) = (try await town.vault(), try await town.dns())
    let host = town.block.replacing("0/24", with: "1")
    trap = try Trap(address: host)
    try names.set("trap.test", to: [.addresses([host])])
    for path in [Secrets.path, Secrets.turningPath] { try vault.put(path, ["token": secrets.index]) }
    let keys = town.directory.appending(path: "keys")
    try FileManager.default.createDirectory(
      at: keys, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    func write(_ name: String, _ text: String) throws { try Self.write(text, to: keys.appending(path: name)) }
    let ours = store.credentials
    try write("ingest", secrets.ingest)
    try write("store", "\(ours.key):\(ours.secret):\(ours.token)")
    try write("store-forged", "\(ours.key):another-secret-of-nobody:\(ours.token)")
    try write("store-lasting", "\(ours.key):\(ours.secret)")
    try write("credentials.yaml", Self.credentials(keys.path, town, region: ours.region))
    vaultToken = keys.appending(path: "vault")
    try write("vault", vault.token)
    house = try await House(
      slots: 2,
      options: [
        "--lease", "6s", "--credentials", keys.path + "/credentials.yaml", "--egress-trust", town.certificates.caFile,
      ], through: town.place.through)
    addresses = ["INDEX": index.address, "LOGS": logs.address, "STORE": store.address, "HOST": host]
  }

  /// Of the worker's configuration.
  private let vaultToken: URL

  /// What the worker shows to Vault from now on.
  func showVault(_ token: String) throws { try Self.write(token, to: vaultToken) }

  private static func write(_ text: String, to file: URL) throws {
    // In its place at once, since the worker reads it at any moment.
    let new = file.appendingPathExtension("new")
    guard
      FileManager.default.createFile(
        atPath: new.path, contents: Data((text + "\n").utf8), attributes: [.posixPermissions: 0o600]),
      rename(new.path, file.path) == 0
    else { throw Problem("\(file.path) cannot be written") }
  }

  private static func credentials(_ keys: String, _ town: Town, region: String) -> String {
    func entry(_ name: String, _ source: String, _ form: String) -> String {
      "\(name):\n  tenants: [local]\n  queues: [default]\n  source: \(source)\n  inject: \(form)\n"
    }
    func vault(_ path: String) -> String {
      """
      {vault: {address: "https://vault.internal:8200", mount: secret, path: \(path), field: token,
          token_file: \(keys)/vault, ca_file: \(town.certificates.caFile)}}
      """
    }
    func signature(_ more: String) -> String { "{aws_sigv4: {region: \(region), service: s3\(more)}}" }
    let session = signature(", session_token: true")
    return entry("index", vault(Secrets.path), "{bearer: true}")
      + entry("turning", vault(Secrets.turningPath), "{bearer: true}")
      + entry("ingest", "{file: \(keys)/ingest}", "{bearer: true}")
      + entry("store", "{file: \(keys)/store}", session)
      + entry("store-forged", "{file: \(keys)/store-forged}", session)
      + entry("store-lasting", "{file: \(keys)/store-lasting}", signature(""))
  }

  /// What addresses are called in `grants`.
  private let addresses: [String: String]

  /// Puts exactly these grants into the policy: one place can have but one at a time.
  func offer(_ grants: [String]) async throws {
    let members = try grants.map { name in
      guard let grant = Self.grants[name] else { throw Problem("no grant \(name)") }
      return "\"\(name)\": \(addresses.reduce(grant) { $0.replacing($1.key, with: $1.value) })"
    }
    try await house.grant("{\(members.joined(separator: ", "))}")
  }

  func run(
    _ script: String, grants: [String], limit: Duration = .seconds(30)
  ) async throws -> (record: JSONValue, text: String, ledger: [JSONValue]) {
    try await offer(grants)
    return try await house.run(script, grants: grants, limit: limit)
  }

  func enqueue(_ script: String, grants: [String], options: [String] = []) async throws -> String {
    try await offer(grants)
    return try await house.enqueue(script, grants: grants, options: options)
  }

  private static let grants = [
    "index": """
    {"host": "pypi.internal", "port": 443, "mode": "http",
      "allow": ["GET /simple/*/", "GET /packages/*"], "allow_private": ["INDEX/32"], "credential": "index"}
    """,
    "turning": """
    {"host": "pypi.internal", "port": 443, "mode": "http",
      "allow": ["GET /simple/*/"], "allow_private": ["INDEX/32"], "credential": "turning"}
    """,
    "ingest": """
    {"host": "logs.internal", "port": 443, "mode": "http",
      "allow": ["POST /ingest"], "allow_private": ["LOGS/32"], "credential": "ingest",
      "most": {"requests": 20000, "connections": 20000}}
    """,
    "inspected": """
    {"host": "logs.internal", "port": 443, "mode": "inspect",
      "allow": ["POST /ingest"], "allow_private": ["LOGS/32"], "credential": "ingest"}
    """,
    "syslog": """
    {"host": "logs.internal", "port": 6514, "mode": "opaque", "allow_private": ["LOGS/32"]}
    """,
    "store": """
    {"host": "s3.internal", "port": 443, "mode": "http",
      "allow": ["GET /books/2026/*", "PUT /books/2026/*", "DELETE /books/2026/*"],
      "allow_private": ["STORE/32"], "credential": "store"}
    """,
    "queried": """
    {"host": "s3.internal", "port": 443, "mode": "http",
      "allow": ["GET /books/2026/*?*"], "allow_private": ["STORE/32"], "credential": "store"}
    """,
    "forged": """
    {"host": "s3.internal", "port": 443, "mode": "http",
      "allow": ["GET /books/2026/*"], "allow_private": ["STORE/32"], "credential": "store-forged"}
    """,
    "lasting": """
    {"host": "s3.internal", "port": 443, "mode": "http",
      "allow": ["GET /books/2026/*"], "allow_private": ["STORE/32"], "credential": "store-lasting"}
    """,
    "trap": """
    {"host": "trap.test", "port": 443, "mode": "tcp", "allow_private": ["HOST/32"]}
    """,
    "counted": """
    {"host": "counted.test", "port": 443, "mode": "tcp", "allow_private": ["LOGS/32"]}
    """,
    "untouched": """
    {"host": "untouched.test", "port": 443, "mode": "http", "allow": ["GET /only"], "allow_private": ["LOGS/32"]}
    """,
    "rebind": """
    {"host": "rebind.test", "port": 443, "mode": "tcp", "allow_private": ["LOGS/32"]}
    """,
    "mixed": """
    {"host": "mixed.test", "port": 443, "mode": "tcp", "allow_private": ["LOGS/32"]}
    """,
    "gone": """
    {"host": "gone.test", "port": 443, "mode": "http", "allow": ["GET /"], "allow_private": ["LOGS/32"]}
    """,
    "silent": """
    {"host": "silent.test", "port": 443, "mode": "http", "allow": ["GET /"], "allow_private": ["LOGS/32"]}
    """,
  ]
}

/// A listener of the host's own. Who dials it is there, whether or not anybody accepts.
final class Trap: Sendable {
  private let descriptor: Int32

  static let port: UInt16 = 443

  init(address: String) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = Self.port.bigEndian
    inet_pton(AF_INET, address, &name.sin_addr)
    let bound = withUnsafePointer(to: name) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard bound == 0, listen(descriptor, 64) == 0 else {
      throw Problem("\(address):\(Self.port) cannot be listened at: \(String(cString: strerror(errno)))")
    }
  }

  deinit { close(descriptor) }

  /// What each of those sent who have come since the last time, to its end; the clients must be gone by then.
  func visits() -> [[UInt8]] {
    var visits: [[UInt8]] = []
    while case let visitor = accept(descriptor, nil, nil), visitor >= 0 {
      defer { close(visitor) }
      var patience = timeval(tv_sec: 5, tv_usec: 0)
      setsockopt(visitor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
      var (sent, buffer) = ([UInt8](), [UInt8](repeating: 0, count: 4_096))
      while case let count = recv(visitor, &buffer, buffer.count, 0), count > 0 { sent += buffer.prefix(count) }
      visits.append(sent)
    }
    return visits
  }
}
