import Crypto
import Foundation
import JWTKit
import Jobs
import Testing

@testable import Identity

/// Tokens as somebody would make them who has none, or who has one and wants another.
@Suite struct TokenAttackTests {
  private func refusal(_ scene: Scene, _ token: String) async throws -> TokenProblem? {
    let verifier = try await scene.verifier()
    return try await problem(TokenProblem.self) { _ = try verifier.verify(token, audience: nil, at: .noon) }
  }

  @Test("alg none is refused, with and without the signature", arguments: ["none", "None", "NONE", "nOnE", ""])
  func none(name: String) async throws {
    let scene = try Scene()
    var parts = try Parts(try await scene.token(at: .noon))
    parts.header = parts.header.with("alg", .string(name))
    #expect(try await refusal(scene, parts.token) == .otherAlgorithm)
    parts.signature = ""
    #expect(try await refusal(scene, parts.token) == .otherAlgorithm)
  }

  @Test(
    "a public key is no HMAC secret, in whatever form it is published", arguments: ["HS256", "HS384", "ES256", "RS256"])
  func confusion(name: String) async throws {
    let scene = try Scene([.es256, .rs256])
    for algorithm in SigningAlgorithm.allCases {
      let entry = try #require(try scene.keys.ring().current(algorithm))
      let pem = try #require(try? PrivateKeyFile.publicPEM(scene.keys, algorithm))
      let jwk = try JSONEncoder().encode(entry.jwk)
      var parts = try Parts(try await scene.token(at: .noon, algorithm: algorithm))
      parts.header = parts.header.with("alg", .string(name))
      parts.payload = parts.payload.with("sub", .string("spiffe://cordon.example/tenant/other/queue/recon"))
      for secret in [Data(pem.utf8), Data((pem + "\n").utf8), jwk] {
        let code = HMAC<SHA256>.authenticationCode(for: Data(try parts.signed.utf8), using: SymmetricKey(data: secret))
        parts.signature = Base64URL.encode(code)
        let expected: TokenProblem = name == algorithm.rawValue ? .signature : .otherAlgorithm
        #expect(try await refusal(scene, parts.token) == expected)
      }
    }
  }

  @Test("the kid of another key is refused, of the same algorithm and of another one")
  func otherKid() async throws {
    let scene = try Scene([.es256, .rs256])
    var parts = try Parts(try await scene.token(at: .noon))
    let ring = try scene.keys.ring()
    let next = try #require(ring.keys.first { $0.state == .next && $0.algorithm == .es256 })
    parts.header = parts.header.with("kid", .string(next.kid))
    #expect(try await refusal(scene, parts.token) == .signature)
    parts.header = parts.header.with("kid", .string(try #require(ring.current(.rs256)).kid))
    #expect(try await refusal(scene, parts.token) == .otherAlgorithm)
    // A key of somebody else's under one of our names.
    let stranger = try Scene()
    #expect(try await refusal(scene, try await stranger.token(at: .noon)) == .unknownKey)
    var foreign = try Parts(try await stranger.token(at: .noon))
    foreign.header = foreign.header.with("kid", .string(try #require(ring.current(.es256)).kid))
    #expect(try await refusal(scene, foreign.token) == .signature)
  }

  @Test(
    "a kid is a word to look up, never a path, a query or nothing",
    arguments: [
      "../../../../dev/null", "keys.json", "/etc/passwd", "", "x' or '1'='1", "a\0b", "http://attacker.example/jwks",
    ])
  func pathKid(kid: String) async throws {
    let scene = try Scene()
    var parts = try Parts(try await scene.token(at: .noon))
    parts.header = parts.header.with("kid", .string(kid))
    #expect(try await refusal(scene, parts.token) == .unknownKey)
    parts.header = parts.header.with("kid", nil)
    #expect(try await refusal(scene, parts.token) == .malformed("its header is not alg, kid and typ"))
  }

  @Test(
    "a key or a rule that a token brings along is not looked at",
    arguments: [
      ("jwk", JSONValue.object(["kty": .string("EC")])), ("jku", .string("https://attacker.example/jwks.json")),
      ("x5u", .string("https://attacker.example/chain.pem")), ("x5c", .array([.string("AA")])),
      ("crit", .array([.string("exp")])), ("b64", .bool(false)), ("zip", .string("DEF")), ("cty", .string("JWT")),
    ])
  func headers(name: String, value: JSONValue) async throws {
    let scene = try Scene()
    var parts = try Parts(try await scene.token(at: .noon))
    parts.header = parts.header.with(name, value)
    #expect(try await refusal(scene, parts.token) == .malformed("its header is not alg, kid and typ"))
  }

  @Test("every changed byte is refused")
  func changedBytes() async throws {
    let scene = try Scene()
    let token = Array(try await scene.token(at: .noon).utf8)
    let verifier = try await scene.verifier()
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    var tried = 0
    for index in token.indices {
      for replacement in [letters[(Int(token[index]) * 7 + index) % 64], UInt8(ascii: "."), UInt8(ascii: "=")]
      where replacement != token[index] {
        var changed = token
        changed[index] = replacement
        let text = String(decoding: changed, as: UTF8.self)
        #expect(throws: TokenProblem.self, "byte \(index)") { try verifier.verify(text, audience: nil, at: .noon) }
        tried += 1
      }
    }
    #expect(tried > token.count)
  }

  @Test("a token has one spelling: no padding, white space, fourth part or lenient end")
  func spellings() async throws {
    let scene = try Scene()
    let token = try await scene.token(at: .noon)
    for text in [
      token + "=", token + ".", token + "\n", " " + token, "." + token, token + ".AA", token + "A", "", "..", ".",
    ] {
      #expect(try await refusal(scene, text) != nil, "\(text.suffix(3))")
    }
    let long = token + String(repeating: "A", count: CompactToken.mostBytes)
    #expect(try await refusal(scene, long) == .malformed("more than \(CompactToken.mostBytes) bytes"))
  }

  /// With our own signature under it: what a defect of the issuer could make is not believed either.
  @Test(
    "a token that we would not make is refused although we signed it",
    arguments: [
      ("two audiences", "aud", JSONValue.array([.string("a"), .string("b")])),
      ("a list of one", "aud", .array([.string("a")])),
      ("no audience", "aud", nil), ("an empty audience", "aud", .string("")),
      ("another issuer", "iss", .string("https://id.cordon.example/")), ("no end", "exp", nil),
      ("an end past the longest life", "exp", .integer(Int64(Date.noon.timeIntervalSince1970) + 301)),
      ("an end as text", "exp", .string("9999999999")), ("an end before its beginning", "exp", .integer(1)),
      ("a beginning of its own", "nbf", .integer(1)),
      ("another tenant", "sub", .string("spiffe://cordon.example/tenant/a/queue/recon")),
      ("another trust domain", "sub", .string("spiffe://other.example/tenant/treasury/queue/recon")),
      ("no attempt", "cordon", nil),
      ("a scope", "scope", .string("everything")), ("an actor", "act", .object(["sub": .string("a")])),
    ] as [(String, String, JSONValue?)])
  func signedByUs(what: String, member: String, value: JSONValue?) async throws {
    let scene = try Scene()
    let good = try Parts(try await scene.token(at: .noon)).payload
    #expect(try await refusal(scene, try await scene.forged(good)) == nil, "the same without the change is good")
    #expect(try await refusal(scene, try await scene.forged(good.with(member, value))) != nil, "\(what)")
  }

  @Test("a number in place of the fencing token's text, or one that is spelt otherwise, is refused")
  func fencingToken() async throws {
    let scene = try Scene()
    let good = try Parts(try await scene.token(at: .noon)).payload
    let attempt = try #require(good["cordon"])
    for value in [
      JSONValue.integer(7), .string("07"), .string("+7"), .string("7 "), .string("0x7"), .string("-7"), .null,
    ] {
      #expect(
        try await refusal(scene, try await scene.forged(good.with("cordon", attempt.with("token", value)))) != nil)
    }
  }

  @Test("a workload's token is no delegation, and a delegation no workload's token")
  func types() async throws {
    let scene = try Scene()
    let good = try Parts(try await scene.token(at: .noon)).payload
    for type in ["cordon-delegation+jwt", "at+jwt", "jwt", ""] {
      #expect(try await refusal(scene, try await scene.forged(good, type: type)) != nil, "\(type)")
    }
  }
}

/// The public half as whoever downloads it would have it as a file.
enum PrivateKeyFile {
  static func publicPEM(_ keys: KeyDirectory, _ algorithm: SigningAlgorithm) throws -> String {
    let pem = try keys.signingKey(algorithm).pem
    return switch algorithm {
    case .es256: try P256.Signing.PrivateKey(pemRepresentation: pem).publicKey.pemRepresentation
    case .rs256: try Insecure.RSA.PrivateKey(pem: pem).publicKey.pemRepresentation
    }
  }
}
