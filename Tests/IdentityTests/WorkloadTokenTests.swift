import Foundation
import Jobs
import Testing

@testable import Identity

@Suite struct WorkloadTokenTests {
  @Test("a token says who the attempt is, and who it is comes back", arguments: SigningAlgorithm.allCases)
  func whatItSays(algorithm: SigningAlgorithm) async throws {
    let scene = try Scene([.es256, .rs256])
    let token = try await scene.token(audience: "https://sts.example", at: .noon, algorithm: algorithm)
    let verified = try await scene.verifier().verify(token, audience: "https://sts.example", at: .noon)
    #expect(verified.kind == .workload && verified.claims.cordon == .sample)
    #expect(verified.claims.sub == "spiffe://cordon.example/tenant/treasury/queue/recon")
    #expect(verified.claims.exp - verified.claims.iat == 300 && verified.claims.nbf == verified.claims.iat)
    // As it travels: one audience that is a string, and a fencing token that no reader rounds.
    let parts = try Parts(token)
    #expect(parts.payload["aud"] == .string("https://sts.example"))
    #expect(parts.payload["cordon"]?["token"] == .string("9007199254740993"))
    #expect(parts.payload.object.map { Set($0.keys) } == ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "cordon"])
    let kid = try #require(try scene.keys.ring().current(algorithm)?.kid)
    #expect(
      parts.header == .object(["alg": .string(algorithm.rawValue), "kid": .string(kid), "typ": .string("JWT")]))
  }

  @Test func noTwoTokensHaveOneName() async throws {
    let scene = try Scene()
    var names: Set<String> = []
    for _ in 0..<50 { names.insert(try #require(try Parts(try await scene.token()).payload["jti"]?.string)) }
    #expect(names.count == 50 && names.allSatisfy { Base64URL.decode($0)?.count == 16 })
  }

  @Test(
    "a token ends with its lease, after five minutes, or when it was asked to",
    arguments: [(1_000.0, 300, 300), (1_000, 5_000, 300), (120.9, 300, 120), (1_000, 30, 30), (1.0, 300, 1)])
  func lifetime(lease: Double, seconds: Int, expected: Int64) throws {
    let lifetime = try TokenLifetime(now: .noon + 0.75, deadline: .noon + lease, seconds: seconds)
    #expect(lifetime.issuedAt == Int64(Date.noon.timeIntervalSince1970))
    #expect(lifetime.expiresAt - lifetime.issuedAt == expected)
  }

  @Test(
    "no token is made for a lease that is over, or for no time",
    arguments: [(0.9, 300), (-5, 300), (600, 0), (600, -1)])
  func over(lease: Double, seconds: Int) {
    #expect(throws: TokenProblem.leaseOver) {
      try TokenLifetime(now: .noon, deadline: .noon + lease, seconds: seconds)
    }
  }

  @Test("times are judged to the second by the clock that is given")
  func clock() async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    let verifier = try await scene.verifier()
    #expect(throws: TokenProblem.notYet) { try verifier.verify(token, audience: nil, at: .noon - 0.001) }
    #expect(throws: Never.self) { try verifier.verify(token, audience: nil, at: .noon + 299.999) }
    #expect(throws: TokenProblem.expired) { try verifier.verify(token, audience: nil, at: .noon + 300) }
  }

  @Test func aTokenIsForOneAudience() async throws {
    let scene = try Scene()
    let token = try await scene.token(audience: "https://sts.example", at: .noon)
    let verifier = try await scene.verifier()
    for audience in ["https://sts.example/", "https://STS.example", "sts.example", ""] {
      #expect(throws: TokenProblem.otherAudience) { try verifier.verify(token, audience: audience, at: .noon) }
    }
  }

  @Test("a component that is none is refused", arguments: Array(wrong.keys).sorted())
  func refused(name: String) async throws {
    let scene = try Scene()
    var attempt = AttemptIdentity.sample
    let spoil = try #require(Self.wrong[name])
    spoil(&attempt)
    let lifetime = try TokenLifetime(now: .noon, deadline: .noon + 60)
    await #expect(throws: (any Error).self) {
      try await scene.issuer.workloadToken(for: attempt, audience: "a", lifetime: lifetime)
    }
  }

  private static let wrong: [String: @Sendable (inout AttemptIdentity) -> Void] = [
    "job upper case": { $0.job = $0.job.uppercased() }, "job empty": { $0.job = "" },
    "job without hyphens": { $0.job = String(repeating: "0", count: 32) },
    "attempt 0": { $0.attempt = 0 }, "token 0": { $0.token = 0 }, "tenant with a slash": { $0.tenant = "a/queue/b" },
    "queue empty": { $0.queue = "" }, "submitter empty": { $0.submitter = "" },
    "submitter with a newline": { $0.submitter = "a\nb" },
    "submitter that runs backwards": { $0.submitter = "a\u{202E}b" },
    "submitter too long": { $0.submitter = String(repeating: "a", count: 256) },
    "actor with NUL": { $0.actors = ["a\0"] }, "many actors": { $0.actors = Array(repeating: "a", count: 9) },
    "many programs": { $0.code = Array(repeating: $0.code[0], count: 9) },
  ]

  @Test(
    "an audience that is none, or two in one, is refused",
    arguments: ["", "a b", "a\nb", "ä", String(repeating: "a", count: 256)])
  func audiences(text: String) async throws {
    let scene = try Scene()
    #expect(try await problem(TokenProblem.self) { _ = try await scene.token(audience: text) } != nil)
  }

  @Test func theLongestNamesFitIntoWhatIsRead() async throws {
    let scene = try Scene([.es256, .rs256])
    var attempt = AttemptIdentity.sample
    attempt.submitter = String(repeating: "ü", count: 127)
    attempt.actors = Array(repeating: attempt.submitter, count: 8)
    attempt.code = Array(repeating: attempt.code[0], count: 8)
    attempt.tenant = String(repeating: "t", count: 63)
    attempt.queue = String(repeating: "q", count: 63)
    let token = try await scene.issuer.workloadToken(
      for: attempt, audience: String(repeating: "a", count: 255),
      lifetime: try TokenLifetime(now: .noon, deadline: .noon + 60),
      algorithm: .rs256)
    #expect(token.utf8.count <= CompactToken.mostBytes)
    #expect(try await scene.verifier().verify(token, audience: nil, at: .noon).claims.cordon == attempt)
  }

  @Test("a retired key verifies what it signed, until it is forgotten")
  func rotation() async throws {
    let scene = try Scene(at: .noon)
    let turn = Date.noon + 600
    let old = try await scene.token(at: turn)
    try scene.keys.rotate(.es256, at: turn, grace: 300)
    let new = try await scene.token(at: turn)
    let verifier = try await scene.verifier()
    #expect(try Parts(old).header["kid"] != Parts(new).header["kid"])
    for token in [old, new] {
      #expect(throws: Never.self) { try verifier.verify(token, audience: nil, at: turn + 299) }
    }
    let last = turn + Double(KeyRing.retirement)
    let late = try verifier.authenticate(old)
    #expect(throws: TokenProblem.expired) { try late.judge(audience: nil, at: last) }
    #expect(late.keyRetiresAt == last)
    // Whatever a key that is forgotten says, it says to nobody.
    let younger = AuthenticToken(
      kind: .workload, claims: try verifier.authenticate(new).claims, keyRetiresAt: turn + 100)
    #expect(throws: Never.self) { try younger.judge(audience: nil, at: turn + 99) }
    #expect(throws: TokenProblem.unknownKey) { try younger.judge(audience: nil, at: turn + 100) }
  }
}
