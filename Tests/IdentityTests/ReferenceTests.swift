import Foundation
import Jobs
import TestKit
import Testing

@testable import Identity

/// Relying parties as they are: libraries of others, given nothing but what is published.
@Suite struct ReferenceTests {
  private struct Question: Encodable {
    var kind = "verify"
    var library: String?
    var jwks: String?
    var token: String?
    var audience = "https://sts.example"
    var issuer = "https://id.cordon.example"
    var configuration: String?
  }

  private struct Answer: Decodable {
    var subject: String?
    var scope: String?
    /// Who acts now first.
    var actors: [String]?
    var problem: String?
    var thumbprints: [String]?
  }

  private static let libraries = ["PyJWT", "joserfc", "jwcrypto", "spiffe"]
  private static let subject = "spiffe://cordon.example/tenant/treasury/queue/recon"

  /// Whether each library accepts each token; nil where they do not agree.
  private func accepted(_ tokens: [String], _ documents: PublishedDocuments, audience: String = "https://sts.example")
    throws -> [Bool?]
  {
    let questions = tokens.flatMap { token in
      Self.libraries.map {
        Question(library: $0, jwks: String(decoding: documents.keySet, as: UTF8.self), token: token, audience: audience)
      }
    }
    let answers: [Answer] = try Reference(of: "IdentityTests").ask(questions)
    return stride(from: 0, to: answers.count, by: Self.libraries.count).map { start in
      let verdicts = Set(answers[start..<(start + Self.libraries.count)].map { $0.subject == Self.subject })
      return verdicts.count == 1 ? verdicts.first : nil
    }
  }

  private func documents(_ scene: Scene, at now: Date = .now) throws -> PublishedDocuments {
    try PublishedDocuments(url: scene.url, ring: try scene.keys.ring(), at: now, hasIntrospection: true)
  }

  @Test(
    "others verify our tokens by kid, of both algorithms, before, during and after a rotation",
    arguments: SigningAlgorithm.allCases)
  func rotation(algorithm: SigningAlgorithm) async throws {
    let start = Date.now - Double(KeyRing.cachingTime)
    let scene = try Scene([.es256, .rs256], at: start)
    let old = try await scene.token(algorithm: algorithm)
    let before = try documents(scene)
    try scene.keys.rotate(algorithm, at: .now, grace: KeyRing.cachingTime)
    let new = try await scene.token(algorithm: algorithm)
    #expect(try Parts(old).header["kid"] != Parts(new).header["kid"])
    // Whoever fetched before the rotation knows the new key already, and whoever fetches now the old one still.
    #expect(try accepted([old, new], before) == [true, true])
    #expect(try accepted([old, new], try documents(scene)) == [true, true])
    let later = try documents(scene, at: .now + Double(KeyRing.retirement))
    #expect(try accepted([old, new], later) == [false, true])
  }

  @Test("a compromised key's tokens are void with the next key set")
  func compromised() async throws {
    let scene = try Scene()
    let stolen = try await scene.token()
    try scene.keys.rotate(.es256, at: .now, grace: KeyRing.cachingTime, compromised: true)
    #expect(try accepted([stolen, try await scene.token()], try documents(scene)) == [false, true])
  }

  @Test("others refuse what we refuse")
  func refused() async throws {
    let scene = try Scene([.es256, .rs256])
    let documents = try documents(scene)
    for algorithm in SigningAlgorithm.allCases {
      let good = try await scene.token(algorithm: algorithm)
      var payload = try Parts(good)
      payload.payload = payload.payload.with("sub", .string("spiffe://cordon.example/tenant/treasury/queue/other"))
      var none = try Parts(good)
      none.header = none.header.with("alg", .string("none"))
      none.signature = ""
      var signature = Array(good.utf8)
      let last = signature.count - 10
      signature[last] = signature[last] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      let expired = try await scene.token(at: .now - 1_000, algorithm: algorithm)
      let early = try await scene.token(at: .now + 1_000, algorithm: algorithm)
      let changed = [try payload.token, try none.token, String(decoding: signature, as: UTF8.self), expired, early]
      #expect(try accepted([good] + changed, documents) == [true, false, false, false, false, false])
      #expect(try accepted([good], documents, audience: "https://other.example") == [false])
    }
  }

  @Test("a delegation verifies as what it is, and nobody takes it for a workload")
  func delegation() async throws {
    let scene = try Scene()
    let jwks = String(decoding: try documents(scene).keySet, as: UTF8.self)
    let delegation = try Delegation(
      person: "ada@cordon.example", to: "agent:planner", scopes: ["ledger.read", "ledger.write"],
      expiresAt: .now + 200)
    let token = try await scene.issuer.delegationToken(
      delegation, scopes: ["ledger.read"], for: .sample, audience: "https://sts.example",
      lifetime: try TokenLifetime(now: .now, deadline: .now + 200))
    let answers: [Answer] = try Reference(of: "IdentityTests").ask(
      Self.libraries.map { Question(library: $0, jwks: jwks, token: token) })
    #expect(answers.dropLast().allSatisfy { $0.subject == "ada@cordon.example" }, "\(answers)")
    #expect(
      answers.dropLast().allSatisfy { $0.scope == "ledger.read" && $0.actors == [Self.subject, "agent:planner"] })
    #expect(answers.last?.subject == nil && answers.last?.problem != nil, "spiffe takes it for a JWT-SVID")
  }

  @Test func othersComputeTheSameNamesForOurKeys() throws {
    let scene = try Scene([.es256, .rs256])
    let ring = try scene.keys.ring()
    let jwks = String(decoding: try documents(scene).keySet, as: UTF8.self)
    let answers: [Answer] = try Reference(of: "IdentityTests").ask([Question(kind: "thumbprints", jwks: jwks)])
    #expect(answers[0].thumbprints?.sorted() == ring.keys.map(\.kid).sorted())
  }

  @Test("the metadata has what discovery requires of it")
  func configuration() throws {
    let scene = try Scene([.es256, .rs256])
    let text = String(decoding: try documents(scene).configuration, as: UTF8.self)
    let broken = text.replacingOccurrences(
      of: "https://id.cordon.example/.well-known", with: "http://id.cordon.example/.well-known")
    #expect(broken != text)
    let answers: [Answer] = try Reference(of: "IdentityTests").ask([
      Question(kind: "configuration", configuration: text), Question(kind: "configuration", configuration: broken),
    ])
    #expect(answers[0].subject == "https://id.cordon.example" && answers[0].problem == nil, "\(answers)")
    #expect(answers[1].problem != nil)
  }
}
