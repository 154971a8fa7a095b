import Foundation
import FoundationNetworking
import Jobs
import TestKit
import Testing

/// An agent's job acts for a person: the service that it reaches is told so by a token, for as long as the person lets it.
@Suite("Journey: a job on behalf of a person", .serialized)
struct DelegationJourney {
  private static let issuer = "https://issuer.internal"
  private static let audience = "https://index.internal"
  private static let agent = "cordon_local"

  /// A house whose worker makes delegation tokens, a person and an agent, and who asks whether a token is good.
  private struct Place {
    let upstream: Upstream
    let house: House
    let person: Tool
    let server: RunningTool
    let introspection: String
    let secret = String(repeating: "0123456789abcdef", count: 3)

    init() async throws {
      upstream = try Upstream()
      let keys = upstream.path("keys")
      let made = try await Tool(url: "").run(["issuer", "init", "--keys", keys])
      guard made.status == 0 else { throw Problem(made.stderr) }
      let credentials = upstream.path("tokens.yaml")
      try """
      for-whom:
        tenants: [local]
        queues: [default]
        source: {workload_token: {audience: "\(DelegationJourney.audience)", delegation: true}}
        inject: {bearer: true}
      """.write(toFile: credentials, atomically: true, encoding: .utf8)
      house = try await House(
        slots: 2,
        options: [
          "--credentials", credentials, "--egress-trust", upstream.path("ca.pem"), "--issuer",
          DelegationJourney.issuer, "--issuer-keys", keys,
        ], through: upstream.through)
      try await house.grant(
        """
        {"index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*"],
          "allow_private": ["\(upstream.network).0/24"], "credential": "for-whom"}}
        """)
      try await house.put("audiences", #"["\#(DelegationJourney.audience)"]"#)
      try await Connecting(house.superuser).run(
        """
        create role ada login in role cordon_producer; create role asking login in role cordon_introspector
        """)
      let boss = Tool(url: house.superuser)
      for command in [
        ["principals", "add", "ada", "--tenant", "local"], ["principals", "limit", "ada", "--kind", "person"],
        ["principals", "limit", DelegationJourney.agent, "--kind", "agent"],
      ] {
        let answer = try await boss.run(command)
        guard answer.status == 0 else { throw Problem(answer.stderr) }
      }
      person = Tool(url: house.tool.url.replacing("user=\(DelegationJourney.agent)", with: "user=ada"))
      guard
        FileManager.default.createFile(
          atPath: upstream.path("secret"), contents: Data(secret.utf8), attributes: [.posixPermissions: 0o600])
      else { throw Problem("no secret") }
      server = try Tool(url: house.tool.url.replacing("user=\(DelegationJourney.agent)", with: "user=asking")).start([
        "issuer", "serve", "--issuer", DelegationJourney.issuer, "--port", "0", "--keys", keys,
        "--introspection-secret", upstream.path("secret"),
      ])
      let serving = server
      try await eventually("the issuer serves", limit: .seconds(30)) {
        String(decoding: serving.stdout, as: UTF8.self).hasSuffix("\n") || !serving.process.isRunning
      }
      let words = String(decoding: server.stdout, as: UTF8.self).split(separator: " ")
      guard let base = words.first(where: { $0.hasPrefix("http://127.0.0.1:") }) else { throw Problem(server.stderr) }
      introspection = "\(base)/introspect"
    }

    func introspect(_ token: String) async throws -> JSONValue {
      var request = URLRequest(url: try #require(URL(string: introspection)))
      request.httpMethod = "POST"
      request.setValue("Bearer \(secret)", forHTTPHeaderField: "Authorization")
      request.setValue("application/x-www-form-urlencoded", forHTTPHeaderField: "Content-Type")
      request.httpBody = Data("token=\(token)".utf8)
      return try JSONDecoder().decode(JSONValue.self, from: try await URLSession.shared.data(for: request).0)
    }

    /// The first token that the service was shown for that path.
    func token(at path: String) async throws -> String {
      let beginning = "GET \(path) Bearer "
      try await eventually("the service is asked for \(path)", limit: .seconds(30)) {
        upstream.seen().contains(beginning)
      }
      let line = try #require(upstream.seen().split(separator: "\n").first { $0.hasPrefix(beginning) })
      return String(try #require(line.dropFirst(beginning.count).split(separator: " ").first))
    }

    /// How often the service was asked by the job that acts, and with which tokens.
    func requests() -> Int { acting().count }
    func tokens() -> Set<Substring> { Set(acting().compactMap { $0.split(separator: " ").dropFirst(3).first }) }
    private func acting() -> [Substring] {
      upstream.seen().split(separator: "\n").filter { $0.hasPrefix("GET /simple/acting-") }
    }

    func close() async throws {
      server.signal(SIGTERM)
      _ = try await server.answer(limit: .seconds(30))
      try await house.close()
    }
  }

  @Test(
    "the service is told who lets whom; without a delegation there is no token; when the person ends it the token is inactive and the job is over"
  )
  func delegation() async throws {
    let place = try await Place()
    func enqueue(_ scopes: String..., code: String = "true") async throws -> Tool.Answer {
      try await place.house.tool.run(
        ["enqueue", "--grant", "index", "--on-behalf-of", "ada"] + scopes.flatMap { ["--scope", $0] }
          + ["--runtime", "bash", "--code", code])
    }
    func delegate(_ scopes: String...) async throws {
      let given = try await place.person.run(
        ["principals", "delegate", Self.agent, "--expires", (Date.now + 3_600).formatted(.iso8601)]
          + scopes.flatMap { ["--scope", $0] })
      #expect(given.status == 0, "\(given.stderr)")
    }
    let undelegated = try await enqueue("ledger.read")
    #expect(undelegated.status == 4 && undelegated.stderr.contains("does not let"), "\(undelegated.stderr)")

    try await delegate("ledger.read", "ledger.write", "mail.send")
    let wider = try await enqueue("admin")
    #expect(wider.status == 4 && wider.stderr.contains("is not delegated"), "\(wider.stderr)")

    // A job that acts for nobody has no such token, and no other in its place.
    let (plain, _, _) = try await place.house.run("curl -sS http://index.internal/simple/plain", grants: ["index"])
    #expect(plain["outcome"] == .string("refused"), "\(plain)")
    #expect(plain["reason"]?.string?.contains("acts for nobody") == true, "\(plain)")
    #expect(!place.upstream.seen().contains("/simple/plain"))

    let began = ContinuousClock.now
    let running = try await enqueue(
      "ledger.read", "ledger.write",
      code: "for n in {1..900}; do curl -sS http://index.internal/simple/acting-$n; sleep 0.3; done")
    #expect(running.status == 0, "\(running.stderr)")
    let job = running.text.trimmingCharacters(in: .whitespacesAndNewlines)
    let token = try await place.token(at: "/simple/acting-1")
    #expect(try ShownToken(token).header["typ"] == .string("cordon-delegation+jwt"))
    let told = try await place.introspect(token)
    #expect(told["active"] == .bool(true) && told["sub"] == .string("ada"), "\(told)")
    #expect(told["scope"] == .string("ledger.read ledger.write") && told["aud"] == .string(Self.audience))
    #expect(told["act"]?["sub"]?.string?.hasSuffix("/tenant/local/queue/default") == true, "\(told)")
    #expect(told["act"]?["act"] == .object(["sub": .string(Self.agent)]))
    #expect(told["cordon"]?["job"] == .string(job) && told["cordon"]?["submitter"] == .string(Self.agent))
    let shown = try await place.house.tool.show(job)["attribution"]?["on_behalf_of"]
    #expect(shown?["person"] == .string("ada") && shown?["actors"] == .array([.string(Self.agent)]))
    #expect(try await place.house.tool.run(["show", job]).text.contains("ada for ledger.read, ledger.write"))
    // One serves the requests of a minute: as many as there are requests could not all be kept out of what the job prints.
    _ = try await place.token(at: "/simple/acting-5")
    let minutes = Int((ContinuousClock.now - began) / .seconds(60))
    #expect(place.tokens().count <= 1 + minutes)

    // What the person takes away is in no token from then on, and a token that says it is not active.
    try await delegate("ledger.read")
    let next = place.requests() + 2
    let narrower = try await place.token(at: "/simple/acting-\(next)")
    #expect(try ShownToken(narrower).claims["scope"] == .string("ledger.read"))
    #expect(try await place.introspect(token) == .object(["active": .bool(false)]))
    #expect(try await place.introspect(narrower)["active"] == .bool(true))

    let ended = try await place.person.run(["principals", "undelegate", Self.agent])
    #expect(ended.status == 0, "\(ended.stderr)")
    let over = ContinuousClock.now
    #expect(try await place.introspect(narrower) == .object(["active": .bool(false)]))
    let record = try await place.house.tool.wait(for: job) { $0["state"] == .string("finished") }
    print("a job whose delegation was ended: over after \(ContinuousClock.now - over)")
    #expect(
      record["reason"]?.string?.hasPrefix("delegation: that of ada to cordon_local was ended by ada") == true,
      "\(record)")
    #expect(try await enqueue("ledger.read").status == 4)
    let list = try await place.person.run(["principals", "delegations", "--json"]).json().array
    #expect(list?.count == 1 && list?[0]["state"]?.string == "over", "\(list ?? [])")
    try await place.close()
  }
}
