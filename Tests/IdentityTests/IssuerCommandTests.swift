import Foundation
import Jobs
import Postgres
import Store
import TestKit
import Testing

@testable import Identity

/// The real binary: keys from `cordon issuer init`, served by `cordon issuer serve`, read by a relying party in Python.
@Suite(.migrated) struct IssuerCommandTests {
  private static let issuer = "https://id.cordon.example"
  private let secret = String(repeating: "0123456789abcdef", count: 3)

  /// A directory of this test, gone with it.
  private final class Place: Sendable {
    let path = NSTemporaryDirectory() + "cordon-issuer-command-\(UUID().uuidString)"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  private struct Question: Encodable {
    var kind = "relying party"
    var issuer = IssuerCommandTests.issuer
    var audience = "https://sts.example"
    var base: String
    var token: String
    var secret: String
  }

  private struct Answer: Decodable {
    var subject: String?
    var problem: String?
    var introspection: JSONValue?
    var status: Int?
  }

  private func role(_ group: String) async throws -> String { try await Database.current.makeRole(in: [group]) }

  /// A running attempt, and how to end it.
  private func attempt() async throws -> (identity: AttemptIdentity, end: @Sendable () async throws -> Bool) {
    let producer = try await role("cordon_producer")
    try await Store(pool: Database.current.pool(maximum: 1)).addPrincipal(role: producer, tenant: "treasury")
    let worker = Store(pool: Database.current.pool(user: try await role("cordon_worker"), maximum: 1))
    _ = try await Store(pool: Database.current.pool(user: producer, maximum: 1))
      .enqueue(queue: "default", specification: #"{"runtime": "bash", "code": "sleep 1"}"#)
    let id = try await worker.registerWorker(
      name: "w", host: "h", build: "b", queues: ["default"], slots: 1, leaseSeconds: 300)
    let claim = try #require(try await worker.claim(worker: id, limit: 1).first)
    #expect(try await worker.start(worker: id, [(claim, StartAttribution())]) == [claim.job])
    let identity = AttemptIdentity(
      job: claim.job.description, attempt: claim.attempt, token: claim.token, queue: claim.queue, tenant: claim.tenant,
      submitter: claim.enqueuedBy, policy: claim.policy, code: [])
    return (
      identity, { try await worker.complete(worker: id, claim: claim, report: AttemptReport(outcome: .succeeded)) }
    )
  }

  /// The server once it listens, and its address.
  private func serve(_ tool: Tool, _ arguments: [String]) async throws -> (running: RunningTool, base: String) {
    let running = try tool.start(["issuer", "serve", "--issuer", Self.issuer, "--port", "0"] + arguments)
    func line() -> String { String(decoding: running.stdout, as: UTF8.self) }
    try await eventually("it serves") { line().hasSuffix("\n") || !running.process.isRunning }
    let address = try #require(
      line().split(separator: " ").first { $0.hasPrefix("http://127.0.0.1:") }, "\(running.stderr)")
    #expect(line().contains("without TLS"))
    return (running, String(address))
  }

  @Test("from the issuer's URL to the keys, the token and whether its attempt still runs")
  func relyingParty() async throws {
    let place = try Place()
    let keys = place.path + "/keys"
    let tool = Tool(url: try await Database.current.url(user: role("cordon_introspector")))
    let made = try await tool.run(["issuer", "init", "--keys", keys, "--algorithm", "ES256", "--algorithm", "RS256"])
    #expect(made.status == 0, "\(made.stderr)")
    try Data(secret.utf8).write(to: URL(fileURLWithPath: place.path + "/secret"))
    #expect(chmod(place.path + "/secret", 0o600) == 0)
    let (server, base) = try await serve(tool, ["--keys", keys, "--introspection-secret", place.path + "/secret"])
    let issuer = TokenIssuer(
      url: try IssuerURL(Self.issuer), trustDomain: try TrustDomain("id.cordon.example"), keys: KeyDirectory(path: keys)
    )
    let (identity, end) = try await attempt()
    var tokens: [String] = []
    for algorithm in SigningAlgorithm.allCases {
      tokens.append(
        try await issuer.workloadToken(
          for: identity, audience: "https://sts.example", lifetime: try TokenLifetime(now: .now, deadline: .now + 200),
          algorithm: algorithm))
    }
    func ask(secret: String) throws -> [Answer] {
      try Reference(of: "IdentityTests").ask(tokens.map { Question(base: base, token: $0, secret: secret) })
    }
    for answer in try ask(secret: secret) {
      #expect(answer.subject == "spiffe://id.cordon.example/tenant/treasury/queue/default", "\(answer)")
      #expect(answer.introspection?["active"] == .bool(true))
      #expect(answer.introspection?["cordon"]?["job"] == .string(identity.job))
    }
    #expect(try ask(secret: "wrong").map(\.status) == [401, 401])
    // The attempt ends; the signature is as good as before, and nobody who asks believes it.
    #expect(try await end())
    for answer in try ask(secret: secret) {
      #expect(answer.subject != nil && answer.introspection == .object(["active": .bool(false)]))
    }
    // Of a database that refuses, nothing is concluded.
    try await Database.current.execute(
      "revoke execute on function cordon.attempt_is_live(uuid, int, bigint, text[]) from cordon_introspector")
    #expect(try ask(secret: secret).map(\.status) == [503, 503])
    server.signal(SIGTERM)
    let ended = try await server.answer(limit: .seconds(20))
    #expect(ended.status == 0, "\(ended.stderr)")
  }

  @Test("a stop waits for the answer that is under way, and takes no more")
  func gracefulStop() async throws {
    let place = try Place()
    let role = try await role("cordon_introspector")
    let tool = Tool(url: Database.current.url(user: role))
    let keys = place.path + "/keys"
    #expect(try await tool.run(["issuer", "init", "--keys", keys]).status == 0)
    try Data(secret.utf8).write(to: URL(fileURLWithPath: place.path + "/secret"))
    #expect(chmod(place.path + "/secret", 0o600) == 0)
    let (server, base) = try await serve(tool, ["--keys", keys, "--introspection-secret", place.path + "/secret"])
    let issuer = TokenIssuer(
      url: try IssuerURL(Self.issuer), trustDomain: try TrustDomain("id.cordon.example"), keys: KeyDirectory(path: keys)
    )
    let token = try await issuer.workloadToken(
      for: try await attempt().identity, audience: "https://sts.example",
      lifetime: try TokenLifetime(now: .now, deadline: .now + 200))
    // The database keeps the answer waiting, below the time after which it would be a 503.
    let holding = try await Database.current.connect()
    try await holding.execute(script: "begin; lock table cordon.lease in access exclusive mode")
    let question = Question(base: base, token: token, secret: secret)
    let asking = Task.detached { () throws -> [Answer] in try Reference(of: "IdentityTests").ask([question]) }
    let waiting = Statement(
      name: "waiting",
      sql: "select count(*) as waiting from pg_stat_activity where usename = $1 and wait_event_type = 'Lock'")
    let watching = try await Database.current.connect()
    while try await watching.query(waiting, [Parameter(role)]).first?.get("waiting", as: Int.self) != 1 {
      try #require(server.process.isRunning, "\(server.stderr)")
      try await Task.sleep(for: .milliseconds(5))
    }
    server.signal(SIGTERM)
    let port = try #require(base.split(separator: ":").last.flatMap { UInt16($0) })
    let listening = ":" + String(format: "%04X", port) + " 00000000:0000 0A"
    try await eventually("it listens no more") {
      !String(decoding: FileManager.default.contents(atPath: "/proc/net/tcp") ?? Data(), as: UTF8.self).contains(
        listening)
    }
    #expect(server.process.isRunning)
    try await holding.execute(script: "rollback")
    #expect(try await asking.value.first?.introspection?["active"] == .bool(true))
    #expect(try await server.answer(limit: .seconds(20)).status == 0)
    await holding.close()
    await watching.close()
  }

  @Test("what cannot be served is said before anything listens")
  func refusals() async throws {
    let place = try Place()
    let (keys, secretFile) = (place.path + "/keys", place.path + "/secret")
    let tool = Tool(url: try await Database.current.url(user: role("cordon_introspector")))
    func serve(_ more: [String]) async throws -> (status: Int32, stderr: String) {
      let answer = try await tool.run(
        ["issuer", "serve", "--issuer", Self.issuer, "--port", "0", "--keys", keys] + more)
      return (answer.status, answer.stderr)
    }
    let none = try await serve([])
    #expect(none.status == 3 && none.stderr.contains("cordon issuer init"))
    #expect(try await tool.run(["issuer", "init", "--keys", keys]).status == 0)
    try Data(secret.utf8).write(to: URL(fileURLWithPath: secretFile))
    #expect(chmod(secretFile, 0o644) == 0)
    let open = try await serve(["--introspection-secret", secretFile])
    #expect(open.status == 3 && open.stderr.contains("chmod 0600"))
    #expect(chmod(secretFile, 0o600) == 0)
    try Data("short".utf8).write(to: URL(fileURLWithPath: secretFile))
    let short = try await serve(["--introspection-secret", secretFile])
    #expect(short.status == 3 && short.stderr.contains("less than 32 bytes"))
    let trust = try await serve(["--trust-domain", "Not/One"])
    #expect(trust.status == 2)
    let url = try await tool.run([
      "issuer", "export", "--issuer", "http://id.example", "--keys", keys, "--out", place.path,
    ])
    #expect(url.status == 2 && url.stderr.contains("no https URL"))
  }

  @Test("init, list, rotate and export say the same of the keys")
  func commands() async throws {
    let place = try Place()
    let keys = place.path + "/keys"
    let tool = Tool(url: "")
    func issuer(_ arguments: String...) async throws -> Tool.Answer {
      try await tool.run(["issuer"] + arguments + ["--keys", keys])
    }
    func listed() async throws -> [String: String] {
      let rows = try #require(try await issuer("list", "--json").json().array)
      return Dictionary(uniqueKeysWithValues: rows.map { ($0["kid"]?.string ?? "", $0["state"]?.string ?? "") })
    }
    func exported() async throws -> Set<String> {
      let answer = try await issuer("export", "--issuer", Self.issuer, "--out", place.path + "/public")
      #expect(answer.status == 0, "\(answer.stderr)")
      let bytes = try Data(contentsOf: URL(fileURLWithPath: place.path + "/public/.well-known/jwks.json"))
      let set = try JSONDecoder().decode(JSONValue.self, from: bytes)
      let members = Set(set["keys"]?.array?.flatMap { $0.object.map { Array($0.keys) } ?? [] } ?? [])
      #expect(members == ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing of a private half")
      return Set(set["keys"]?.array?.compactMap { $0["kid"]?.string } ?? [])
    }
    #expect(try await issuer("init").status == 0)
    let before = try await listed()
    #expect(before.values.sorted() == ["current", "next"])
    #expect(try await exported() == Set(before.keys))
    let early = try await issuer("rotate")
    #expect(early.status == 2 && early.stderr.contains("may sign from"))
    #expect(try await listed() == before)
    let twice = try await issuer("init")
    #expect(twice.status == 2 && twice.stderr.contains("cordon issuer rotate"))
    #expect(try await issuer("rotate", "--compromised").status == 0)
    let after = try await listed()
    let lost = try #require(before.first { $0.value == "current" }).key
    #expect(after.values.sorted() == ["current", "next"] && after[lost] == nil)
    #expect(try await exported() == Set(after.keys))
  }
}
