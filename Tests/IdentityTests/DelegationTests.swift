import Foundation
import Jobs
import Testing

@testable import Identity

@Suite struct DelegationTests {
  private func root(_ scopes: Set<String> = ["ledger.read", "ledger.write", "mail.send"]) throws -> Delegation {
    try Delegation(person: "ada@cordon.example", to: "agent:planner", scopes: scopes, expiresAt: .noon + 200)
  }

  private let lifetime: TokenLifetime

  init() throws { lifetime = try TokenLifetime(now: .noon, deadline: .noon + 250) }

  @Test("the job acts for the person through the agent, for less and no longer")
  func chain() async throws {
    let scene = try Scene()
    let token = try await scene.issuer.delegationToken(
      try root(), scopes: ["ledger.read"], for: .sample, audience: "https://ledger.example", lifetime: lifetime)
    let payload = try Parts(token).payload
    #expect(payload["sub"] == .string("ada@cordon.example") && payload["scope"] == .string("ledger.read"))
    // RFC 8693, section 4.1: who acts now is outside, who acted before is within.
    #expect(payload["act"]?["sub"] == .string("spiffe://cordon.example/tenant/treasury/queue/recon"))
    #expect(payload["act"]?["act"] == .object(["sub": .string("agent:planner")]))
    let verified = try await scene.verifier().verify(token, audience: "https://ledger.example", at: .noon)
    #expect(verified.kind == .delegation && verified.claims.cordon == .sample)
    // The earlier of the lease's end and the delegation's.
    #expect(verified.claims.exp == Int64(Date.noon.timeIntervalSince1970) + 200)
    let shown = try #require(try verified.delegation)
    #expect(shown.actors == ["agent:planner", "spiffe://cordon.example/tenant/treasury/queue/recon"])
    // What the job may, it may pass on, and no more.
    #expect(throws: TokenProblem.widerScope("ledger.write")) {
      try shown.delegated(to: "x", scopes: ["ledger.read", "ledger.write"], expiresAt: shown.expiresAt)
    }
  }

  @Test(
    "a scope that the parent does not have is refused",
    arguments: [["mail.send", "admin"], ["ledger"], ["LEDGER.READ"], ["*"]])
  func wider(scopes: [String]) async throws {
    let scene = try Scene()
    let root = try root()
    #expect(
      try await problem(TokenProblem.self) {
        _ = try await scene.issuer.delegationToken(
          root, scopes: Set(scopes), for: .sample, audience: "a", lifetime: lifetime)
      } == .widerScope(Set(scopes).subtracting(root.scopes).min() ?? ""))
  }

  @Test func noStepLastsLongerThanTheOneBefore() throws {
    let root = try root()
    #expect(throws: TokenProblem.self) {
      try root.delegated(to: "a", scopes: root.scopes, expiresAt: root.expiresAt + 1)
    }
  }

  @Test func theChainHasAnEnd() throws {
    var step = try root()
    while step.actors.count < Delegation.deepest {
      step = try step.delegated(to: "agent:\(step.actors.count)", scopes: step.scopes, expiresAt: step.expiresAt)
    }
    #expect(throws: TokenProblem.tooDeep) {
      try step.delegated(to: "one more", scopes: step.scopes, expiresAt: step.expiresAt)
    }
  }

  @Test(
    "no scope, two in one word, and what no scope may hold are refused",
    arguments: [[], [""], ["a b"], ["a\"b"], ["a\\b"], ["ä"], ["a\n"], [String(repeating: "a", count: 65)]]
      as [[String]])
  func scopes(words: [String]) {
    #expect(throws: TokenProblem.self) { try root(Set(words)) }
  }

  @Test(
    "a person is no workload",
    arguments: ["spiffe://cordon.example/tenant/treasury/queue/recon", "SPIFFE://x", "", "a\nb"])
  func persons(name: String) {
    #expect(throws: TokenProblem.self) {
      try Delegation(person: name, to: "agent", scopes: ["a"], expiresAt: .noon)
    }
  }

  @Test("an agent's token shows its delegation, so that it can be passed on to a job")
  func agents() async throws {
    let scene = try Scene()
    let token = try await scene.issuer.delegationToken(try root(), audience: "https://cordon.example", now: .noon)
    let verified = try await scene.verifier().verify(token, audience: "https://cordon.example", at: .noon)
    #expect(verified.claims.cordon == nil && verified.claims.exp == Int64(Date.noon.timeIntervalSince1970) + 200)
    let delegation = try #require(try verified.delegation)
    #expect(delegation == (try root()))
    let late = try await problem(TokenProblem.self) {
      _ = try await scene.issuer.delegationToken(delegation, audience: "a", now: .noon + 200)
    }
    #expect(late == .leaseOver)
  }

  /// With our own signature under it.
  @Test(
    "a delegation that says more than it may is refused although we signed it",
    arguments: [
      ("sub", JSONValue.string("spiffe://cordon.example/tenant/treasury/queue/recon")), ("act", nil), ("scope", nil),
      ("scope", .string("")), ("scope", .string("a  b")), ("act", .object(["sub": .string("somebody else")])),
      ("act", .object(["sub": .string("")])), ("aud", .array([.string("a"), .string("b")])),
    ] as [(String, JSONValue?)])
  func signedByUs(member: String, value: JSONValue?) async throws {
    let scene = try Scene()
    let token = try await scene.issuer.delegationToken(
      try root(), scopes: ["ledger.read"], for: .sample, audience: "a", lifetime: lifetime)
    let payload = try Parts(token).payload
    let verifier = try await scene.verifier()
    let type = TokenKind.delegation.rawValue
    let same = try await scene.forged(payload, type: type)
    #expect(throws: Never.self) { try verifier.verify(same, audience: nil, at: .noon) }
    let forged = try await scene.forged(payload.with(member, value), type: type)
    #expect(throws: TokenProblem.self) { try verifier.verify(forged, audience: nil, at: .noon) }
  }
}
