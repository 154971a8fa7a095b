import Foundation
import Hummingbird
import HummingbirdTesting
import Jobs
import Logging
import Testing

@testable import Identity

/// A database that says what it is told to, and counts who asks.
final class ToldLiveness: AttemptLiveness, @unchecked Sendable {
  struct Away: Error {}

  private let lock = NSLock()
  private var calls: [String] = []
  private let answer: Liveness?

  init(_ isLive: Bool?, asOf: Date = .noon) { answer = isLive.map { Liveness(isLive: $0, asOf: asOf) } }

  var asked: [String] { lock.withLock { calls } }

  func isLive(job: String, attempt: Int, token: Int64, scopes: Set<String>) async throws -> Liveness {
    lock.withLock { calls.append((["\(job) \(attempt) \(token)"] + scopes.sorted()).joined(separator: " ")) }
    guard let answer else { throw Away() }
    return answer
  }
}

@Suite struct IntrospectionTests {
  private static let secret = String(repeating: "s", count: 43)

  private func ask(
    _ scene: Scene, _ liveness: ToldLiveness, body: String, authorization: String? = "Bearer \(secret)",
    type: String = "application/x-www-form-urlencoded", audience: String? = nil
  ) async throws -> (status: Int, body: JSONValue, headers: HTTPFields) {
    let introspection = try Introspection(liveness: liveness, audience: audience, secret: Array(Self.secret.utf8))
    let endpoints = IssuerEndpoints(
      url: scene.url, trustDomain: scene.trustDomain, keys: scene.keys, introspection: introspection,
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    var fields: HTTPFields = [.contentType: type]
    fields[.authorization] = authorization
    let headers = fields
    return try await endpoints.application(host: "127.0.0.1", port: 0).test(.router) { client in
      try await client.execute(
        uri: "/introspect", method: .post, headers: headers, body: ByteBuffer(string: body)
      ) { response in
        let bytes = Data(response.body.readableBytesView)
        return (
          response.status.code, bytes.isEmpty ? .null : try JSONDecoder().decode(JSONValue.self, from: bytes),
          response.headers
        )
      }
    }
  }

  @Test("of a delegation it is asked whether all of its scopes still are delegated")
  func delegation() async throws {
    let scene = try Scene()
    let delegation = try Delegation(
      person: "ada", to: "helper", scopes: ["ledger.read", "mail.send"], expiresAt: .noon + 200)
    let token = try await scene.issuer.delegationToken(
      delegation, scopes: ["mail.send", "ledger.read"], for: .sample, audience: "a",
      lifetime: try TokenLifetime(now: .noon, deadline: .noon + 200))
    for isLive in [true, false] {
      let liveness = ToldLiveness(isLive)
      let answer = try await ask(scene, liveness, body: "token=\(token)")
      #expect(answer.body["active"] == .bool(isLive) && answer.body["sub"] == (isLive ? .string("ada") : nil))
      #expect(liveness.asked.count == 1 && liveness.asked[0].hasSuffix(" ledger.read mail.send"), "\(liveness.asked)")
    }
  }

  @Test func aLiveAttemptsTokenIsActiveWithWhatItSays() async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    let liveness = ToldLiveness(true)
    let answer = try await ask(scene, liveness, body: "token=\(token)&token_type_hint=access_token")
    #expect(answer.status == 200 && answer.body["active"] == .bool(true))
    let claims = try Parts(token).payload
    for name in ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "cordon"] {
      #expect(answer.body[name] != nil && answer.body[name] == claims[name], "\(name)")
    }
    #expect(answer.headers[.cacheControl] == "no-store")
    #expect(liveness.asked == ["\(AttemptIdentity.sample.job) 2 9007199254740993"])
  }

  @Test func aDelegationOfALiveAttemptIsActiveWithItsScopeAndActors() async throws {
    let scene = try Scene()
    let delegation = try Delegation(person: "ada", to: "agent", scopes: ["a", "b"], expiresAt: .noon + 60)
    let token = try await scene.issuer.delegationToken(
      delegation, scopes: ["b"], for: .sample, audience: "x",
      lifetime: try TokenLifetime(now: .noon, deadline: .noon + 60))
    let answer = try await ask(scene, ToldLiveness(true), body: "token=\(token)")
    #expect(
      answer.body["active"] == .bool(true) && answer.body["sub"] == .string("ada")
        && answer.body["scope"] == .string("b"))
    #expect(answer.body["act"]?["act"]?["sub"] == .string("agent"))
    #expect(try await ask(scene, ToldLiveness(false), body: "token=\(token)").body == .object(["active": .bool(false)]))
  }

  @Test("of what does not live nothing is said", arguments: [false, true])
  func inactive(isLive: Bool) async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    // Over by the lease, or by the database's clock.
    let liveness = isLive ? ToldLiveness(true, asOf: .noon + 300) : ToldLiveness(false)
    let answer = try await ask(scene, liveness, body: "token=\(token)")
    #expect(answer.status == 200 && answer.body == .object(["active": .bool(false)]))
  }

  @Test("what is not ours is inactive, and the database is not asked")
  func foreign() async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    let delegation = try Delegation(person: "ada", to: "agent", scopes: ["a"], expiresAt: .noon + 60)
    let agents = try await scene.issuer.delegationToken(delegation, audience: "a", now: .noon)
    for text in ["x", token + "A", try await Scene().token(at: .noon), agents] {
      let liveness = ToldLiveness(true)
      let answer = try await ask(scene, liveness, body: "token=\(text)")
      #expect(answer.status == 200 && answer.body == .object(["active": .bool(false)]))
      #expect(liveness.asked.isEmpty)
    }
  }

  @Test func aDatabaseThatCannotBeAskedIsNoAnswer() async throws {
    let scene = try Scene()
    let answer = try await ask(scene, ToldLiveness(nil), body: "token=\(try await scene.token(at: .noon))")
    #expect(answer.status == 503 && answer.body["active"] == nil)
  }

  @Test func keysThatCannotBeReadAreNoAnswer() async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    #expect(chmod(scene.keys.path, 0o755) == 0)
    let answer = try await ask(scene, ToldLiveness(true), body: "token=\(token)")
    #expect(answer.status == 503 && answer.body["active"] == nil)
  }

  @Test func tokensOfAnotherAudienceAreInactiveWhereOneIsNamed() async throws {
    let scene = try Scene()
    let token = try await scene.token(audience: "https://sts.example", at: .noon)
    let other = try await ask(scene, ToldLiveness(true), body: "token=\(token)", audience: "https://ledger.example")
    #expect(other.body == .object(["active": .bool(false)]))
    let own = try await ask(scene, ToldLiveness(true), body: "token=\(token)", audience: "https://sts.example")
    #expect(own.body["active"] == .bool(true))
  }

  @Test(
    "who does not show the secret is told nothing",
    arguments: [
      nil, "", "Bearer", "Bearer ", "Bearer " + String(repeating: "s", count: 42),
      "Bearer " + String(repeating: "s", count: 44),
      "Basic " + secret, secret, "Bearer  " + secret,
    ] as [String?])
  func strangers(authorization: String?) async throws {
    let scene = try Scene()
    let liveness = ToldLiveness(true)
    let answer = try await ask(
      scene, liveness, body: "token=\(try await scene.token(at: .noon))", authorization: authorization)
    #expect(answer.status == 401 && answer.headers[.wwwAuthenticate] == "Bearer" && answer.body["active"] == nil)
    #expect(liveness.asked.isEmpty)
  }

  @Test func aShortSecretIsRefused() {
    #expect(throws: FileProblem.self) {
      try Introspection(liveness: ToldLiveness(true), audience: nil, secret: Array(repeating: 1, count: 31))
    }
  }

  @Test(
    "a form without one token is a bad request",
    arguments: [
      "", "token", "token=", "tokens=a", "token=a&token=b", "token=%", "token=%4", "token=%zz", "token=%ff",
      "%zz=1&token=a",
    ])
  func forms(body: String) async throws {
    let answer = try await ask(try Scene(), ToldLiveness(true), body: body)
    #expect(answer.status == 400 && answer.body["error"] == .string("invalid_request"))
  }

  @Test func otherTypesAndLongBodiesAreRefused() async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    #expect(try await ask(scene, ToldLiveness(true), body: "token=\(token)", type: "application/json").status == 400)
    #expect(
      try await ask(
        scene, ToldLiveness(true), body: "token=\(token)", type: "application/x-www-form-urlencoded; charset=utf-8"
      )
      .status == 200)
    let long = "token=" + String(repeating: "a", count: IntrospectionForm.mostBytes)
    #expect(try await ask(scene, ToldLiveness(true), body: long).status == 413)
  }

  @Test func encodedFormsAreRead() {
    let form = IntrospectionForm(
      Array("a=b&token=x%2Ey+z%C3%A4&c".utf8), contentType: "application/x-www-form-urlencoded")
    #expect(form?.token == "x.y zä")
  }

  @Test func withoutASecretThereIsNoIntrospection() async throws {
    let scene = try Scene()
    let endpoints = IssuerEndpoints(
      url: scene.url, trustDomain: scene.trustDomain, keys: scene.keys, introspection: nil,
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    try await endpoints.application(host: "127.0.0.1", port: 0).test(.router) { client in
      try await client.execute(uri: "/introspect", method: .post) { #expect($0.status == .notFound) }
      try await client.execute(uri: "/.well-known/jwks.json", method: .get) { response in
        #expect(response.status == .ok && response.headers[.cacheControl] == "public, max-age=\(KeyRing.cachingTime)")
        let expected = try PublishedDocuments(
          url: scene.url, ring: try scene.keys.ring(), at: .now, hasIntrospection: false)
        #expect(Array(response.body.readableBytesView) == expected.keySet)
      }
      try await client.execute(uri: "/health", method: .get) { #expect($0.status == .ok) }
      #expect(chmod(scene.keys.path, 0o755) == 0)
      try await client.execute(uri: "/health", method: .get) { #expect($0.status == .serviceUnavailable) }
    }
  }
}
