import Foundation
import Jobs

@testable import Identity

/// An issuer with keys in a directory of its own, gone with this value.
final class Scene: Sendable {
  let keys: KeyDirectory
  let issuer: TokenIssuer
  let url: IssuerURL
  let trustDomain: TrustDomain

  init(_ algorithms: [SigningAlgorithm] = [.es256], at now: Date = .now) throws {
    keys = KeyDirectory(path: NSTemporaryDirectory() + "cordon-issuer-\(UUID().uuidString)")
    url = try IssuerURL("https://id.cordon.example")
    trustDomain = try TrustDomain("cordon.example")
    issuer = TokenIssuer(url: url, trustDomain: trustDomain, keys: keys)
    try keys.initialise(algorithms, at: now, grace: KeyRing.cachingTime)
  }

  deinit { try? FileManager.default.removeItem(atPath: keys.path) }

  func verifier() async throws -> TokenVerifier {
    try await TokenVerifier(url: url, trustDomain: trustDomain, ring: try keys.ring())
  }

  func token(
    audience: String = "https://sts.example", at now: Date = .now, seconds: Int = 300,
    algorithm: SigningAlgorithm = .es256
  ) async throws -> String {
    try await issuer.workloadToken(
      for: .sample, audience: audience,
      lifetime: try TokenLifetime(now: now, deadline: .distantFuture, seconds: seconds),
      algorithm: algorithm)
  }

  /// Signs whatever is given with the current key, as no token of ours is made.
  func forged(_ claims: some Encodable & Sendable, type: String = "JWT") async throws -> String {
    try await keys.signingKey(.es256).sign(AnyPayload(claims), type: type)
  }
}

extension AttemptIdentity {
  static let sample = AttemptIdentity(
    job: "01997d3c-9b6e-7c32-8f64-2f0a6c7d1e55", attempt: 2, token: 9_007_199_254_740_993, queue: "recon",
    tenant: "treasury", submitter: "recon_service", actors: ["ada@cordon.example"],
    policy: Digest(sha256: Array(repeating: 7, count: 32)), code: [Digest(sha256: Array(repeating: 9, count: 32))])
}

extension Date {
  /// A moment that no test depends on; whole seconds, as in the files.
  static let noon = Date(timeIntervalSince1970: 1_795_608_000)
}

/// A problem that a call is refused with.
func problem<Problem: Error>(_ type: Problem.Type, _ body: () async throws -> Void) async throws -> Problem? {
  do { try await body() } catch let error as Problem { return error }
  return nil
}
