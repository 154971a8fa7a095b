import Jobs
import Testing

@testable import Broker

/// A session with one grant for packages.internal, its door, and the proxy's.
struct WebSetting {
  let session: EgressSession
  let port: UInt16
  let proxy: UInt16
  let lines = Lines()
  let resolver: CountingResolver

  var url: String { "http://packages.internal:\(port)" }
  var resolved: String { "packages.internal:\(port):127.0.0.1" }
  var host: String { "packages.internal:\(port)" }

  init(
    _ server: UInt16, trust: String? = nil, mode: String = "http", allow: String = "\"GET /simple/*\"",
    more: String = "", resolver: CountingResolver = CountingResolver("127.0.0.1"), limits: SessionLimits = .init(),
    allowance: EgressAllowance? = nil, credentials: some CredentialProvider = NoCredentials(),
    conceal: @escaping @Sendable (String) -> String = { $0 }
  ) async throws {
    self.resolver = resolver
    let door = try House.listener()
    let proxyDoor = try House.listener()
    let allowed = mode == "http" || mode == "inspect" ? "\"allow\":[\(allow)]," : ""
    let grant = try House.grant(
      """
      {"host":"packages.internal","port":\(server),"mode":"\(mode)","listen":\(door.port),\(allowed)
      "allow_private":["127.0.0.0/8"]\(more)}
      """)
    (port, proxy) = (door.port, proxyDoor.port)
    session = try await House.broker(resolver, trust: trust).open(
      House.attempt, grants: [(grant, door.descriptor)], proxy: proxyDoor.descriptor, limits: limits,
      allowance: allowance, credentials: credentials, conceal: conceal, ledger: lines.record)
  }

  /// What a client that sends these bytes is answered until the connection ends.
  func answer(to text: String, at port: UInt16? = nil) async throws -> String {
    let client = try await House.connect(port ?? self.port)
    try await client.write(text)
    return try await client.readAll()
  }
}
