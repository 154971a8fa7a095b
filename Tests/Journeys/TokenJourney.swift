import Foundation
import Jobs
import TestKit
import Testing

/// A job speaks to a service as who it is: the broker adds a token of the attempt's own, and whoever gets it can ask whether the
/// attempt still runs.
@Suite("Journey: a token of the attempt's own", .serialized)
struct TokenJourney {
  private static let issuer = "https://issuer.internal"
  private static let audience = "https://index.internal"

  /// A house whose worker can make tokens for the audience, and a policy that grants the service.
  private func house(_ upstream: Upstream) async throws -> House {
    let keys = upstream.path("keys")
    let made = try await Tool(url: "").run(["issuer", "init", "--keys", keys])
    #expect(made.status == 0, "\(made.stderr)")
    let credentials = upstream.path("tokens.yaml")
    try """
    who:
      tenants: [local]
      queues: [default]
      source: {workload_token: {audience: "\(Self.audience)"}}
      inject: {bearer: true}
    """.write(toFile: credentials, atomically: true, encoding: .utf8)
    let house = try await House(
      slots: 1,
      options: [
        "--credentials", credentials, "--egress-trust", upstream.path("ca.pem"), "--issuer", Self.issuer,
        "--issuer-keys", keys,
      ], through: upstream.through)
    try await house.grant(
      """
      {"index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*"],
        "allow_private": ["\(upstream.network).0/24"], "credential": "who"}}
      """)
    return house
  }

  @Test("a token for whom the policy does not name is never made, and one that was made is used no more")
  func audiences() async throws {
    let upstream = try Upstream()
    let house = try await house(upstream)
    let get = "curl -sS http://index.internal/simple/"
    func seen(_ path: String) -> Bool { upstream.seen().contains("GET /simple/\(path) ") }
    let (record, text, ledger) = try await house.run(get + "unnamed", grants: ["index"])
    #expect(record["outcome"] == .string("succeeded"), "\(record)")
    #expect(text.contains("its credential who is refused: the policy's audiences do not name whom"), "\(text)")
    #expect(!text.contains(Self.audience))
    let denied = try #require(ledger.first)
    #expect(ledger.count == 1 && denied["decision"] == .string("denied") && denied["status"] == .integer(403))
    #expect(denied["rule"]?.string?.contains("audiences") == true)
    #expect(!seen("unnamed"))

    try await house.put("audiences", #"["\#(Self.audience)"]"#)
    // Asks until it is refused. A token is kept for a minute: longer than this waits.
    let job = try await house.enqueue(
      "while answer=$(\(get)named) && [[ $answer == *Bearer* ]]; do sleep 0.1; done; echo \"$answer\"",
      grants: ["index"])
    try await eventually("the service is asked with a token") { seen("named") }
    let bound = try await Tool(url: house.superuser).run(
      ["policy", "bind", "--tenant", "local", "-"], stdin: Array("version: 1\naudiences: []\n".utf8))
    #expect(bound.status == 0, "\(bound.stderr)")
    let end = try await house.end(of: job, limit: .seconds(30))
    #expect(end.record["outcome"] == .string("succeeded") && end.text.contains("audiences do not name"), "\(end.text)")
    #expect(end.ledger.contains { $0["decision"] == .string("allowed") })
    #expect(end.ledger.last?["decision"] == .string("denied"))

    let explained = try await Tool(url: house.superuser).run(["policy", "explain", "--tenant", "local"])
    let line = try #require(explained.text.split(separator: "\n").first { $0.hasPrefix("audiences ") })
    #expect(line.contains("tenant local") && line.hasSuffix(" 2"), "\(line)")
    try await house.close()
  }

  @Test(
    "the service gets who asked, what runs and under which policy; the job never sees it; it is inactive once the attempt is over"
  )
  func token() async throws {
    let upstream = try Upstream()
    let house = try await house(upstream)
    try await house.put("audiences", #"["\#(Self.audience)"]"#)
    let (record, text, _) = try await house.run("curl -sS http://index.internal/simple/who", grants: ["index"])
    #expect(record["outcome"] == .string("succeeded"), "\(record)")
    #expect(text == "GET /simple/who Bearer [redacted:who] None\n", "\(text)")
    let line = try #require(upstream.seen().split(separator: "\n").first { $0.hasPrefix("GET /simple/who ") })
    let token = try #require(line.split(separator: " ").dropFirst(3).first)
    let claims = try ShownToken(token).claims
    #expect(
      claims["iss"] == .string(Self.issuer) && claims["sub"]?.string?.hasSuffix("/tenant/local/queue/default") == true)
    #expect([JSONValue.string(Self.audience), .array([.string(Self.audience)])].contains(claims["aud"] ?? .null))
    let own = claims["cordon"]
    #expect(own?["job"] == record["job"] && own?["attempt"] == .integer(1) && own?["tenant"] == .string("local"))
    #expect(own?["policy"] == record["attribution"]?["policy"], "\(claims)")
    #expect(own?["code"]?.array?.first == record["attribution"]?["code"])
    #expect(own?["submitter"] == record["attribution"]?["enqueued_by"])
    let (issued, ends) = (claims["iat"]?.integer ?? 0, claims["exp"]?.integer ?? 0)
    #expect(ends > issued && ends - issued <= 300)
    // What an introspector is told of it.
    let alive = try await Connecting(house.superuser).column(
      """
      SELECT cordon.attempt_is_live('\(record["job"]?.string ?? "")', 1, \(own?["token"]?.string ?? "0"))::int
      """)
    #expect(alive == [0])
    try await house.close()
  }
}
