import Crypto
import FoundationEssentials

// Theory of operation
//
// A signature says who a token was made for. Whether that attempt still runs, only the database knows, and it is asked each time
// (RFC 7662). Nothing is remembered: an answer from a moment ago is what a completed attempt would live on.
//
//   the caller shows the secret it shares with the issuer;
//   the token is authenticated: what is not ours is inactive, and the database is not asked;
//   the database is asked about the attempt, and what time it is; the token is judged by that time;
//   what cannot be asked is not answered: 503, and never active.

/// What the database says of an attempt.
public struct Liveness: Sendable, Equatable {
  /// Its lease has started, is held, is neither cancelled nor frozen, and its deadline has not passed; and where it acts for a person,
  /// that one lets it still, for all of the scopes.
  public let isLive: Bool
  /// The database's clock.
  public let asOf: Date

  public init(isLive: Bool, asOf: Date) {
    self.isLive = isLive
    self.asOf = asOf
  }
}

/// Who knows whether an attempt lives.
public protocol AttemptLiveness: Sendable {
  /// - Parameters:
  ///   - token: the fencing token of the lease.
  ///   - scopes: what a delegation says; empty for a workload's token.
  /// - Throws: where nobody can be asked.
  func isLive(job: String, attempt: Int, token: Int64, scopes: Set<String>) async throws -> Liveness
}

/// What a caller is told.
public enum IntrospectionAnswer: Equatable, Sendable {
  case active(TokenClaims)
  /// Of everything that is not a live attempt of ours there is nothing more to say (RFC 7662, section 2.2).
  case inactive
  /// Why nobody could be asked, for the log and not for the caller.
  case unavailable(String)
}

/// Says of tokens whether they are good now.
public struct Introspection: Sendable {
  private let liveness: any AttemptLiveness
  /// The only audience whose tokens callers may ask about; nil where callers are to compare `aud` themselves.
  private let audience: String?
  private let secretDigest: SHA256.Digest

  /// Bytes; as many as the digest that is compared has.
  public static let leastSecret = 32

  /// - Parameter secret: what callers show as a bearer token.
  public init(liveness: any AttemptLiveness, audience: String?, secret: [UInt8]) throws(FileProblem) {
    guard secret.count >= Self.leastSecret else {
      throw FileProblem(
        "the introspection secret has less than \(Self.leastSecret) bytes",
        fix: "head -c 32 /dev/urandom | base64 > FILE")
    }
    self.liveness = liveness
    self.audience = audience
    secretDigest = SHA256.hash(data: secret)
  }

  /// Whether the value of an `Authorization` field shows the secret. Digests are compared, in constant time: neither how much of the
  /// secret was right nor its length shows in how long that takes.
  public func admits(authorization: String?) -> Bool {
    let scheme = "bearer "
    guard let authorization, authorization.lowercased().hasPrefix(scheme) else { return false }
    return SHA256.hash(data: Array(authorization.utf8.dropFirst(scheme.utf8.count))) == secretDigest
  }

  public func answer(_ token: String, verifier: TokenVerifier) async -> IntrospectionAnswer {
    guard let authentic = try? verifier.authenticate(token), let attempt = authentic.claims.cordon else {
      return .inactive
    }
    let scopes: Set<String>
    do { scopes = try authentic.delegation?.scopes ?? [] } catch { return .inactive }
    let life: Liveness
    do {
      life = try await liveness.isLive(
        job: attempt.job, attempt: attempt.attempt, token: attempt.token, scopes: scopes)
    } catch { return .unavailable("\(error)") }
    do { try authentic.judge(audience: audience, at: life.asOf) } catch { return .inactive }
    return life.isLive ? .active(authentic.claims) : .inactive
  }
}

extension IntrospectionAnswer: Encodable {
  private enum CodingKeys: String, CodingKey {
    case active
    case tokenType = "token_type"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    guard case .active(let claims) = self else {
      try container.encode(false, forKey: .active)
      return
    }
    try container.encode(true, forKey: .active)
    try container.encode("Bearer", forKey: .tokenType)
    try claims.encode(to: encoder)
  }
}
