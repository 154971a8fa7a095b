import FoundationEssentials
import JWTKit

// Theory of operation
//
// A token is judged in an order in which nothing it says is believed before it is known whose it is:
//
//   its form     three parts with one spelling each, a header of `alg`, `kid` and `typ` and nothing else;
//   its key      looked up by `kid` among the keys of the ring. The key has one algorithm; a header that says another is refused, so
//                neither `none` nor a public key used as an HMAC secret is ever tried;
//   signature    over the bytes as they came;
//   its claims   ours in every member, the subject following from tenant and queue;
//   its time     by the clock that the caller gives.
//
// JWTKit checks the signature. The rest is done here: it takes the first key of a collection where it does not know the name, decodes
// base64 that is none to nothing, and compares times with the clock of this host.

/// A token whose signature and claims are ours. Whether it is still good is asked of `judge`.
public struct AuthenticToken: Sendable, Equatable {
  public let kind: TokenKind
  public let claims: TokenClaims
  let keyRetiresAt: Date?

  /// Throws unless it is good at that moment, for that audience.
  /// - Parameters:
  ///   - audience: nil where any will do.
  ///   - now: of the clock it was made by, so there is no leeway.
  public func judge(audience: String?, at now: Date) throws(TokenProblem) {
    if let audience, audience != claims.aud { throw .otherAudience }
    let seconds = now.timeIntervalSince1970
    guard seconds >= Double(claims.nbf) else { throw .notYet }
    guard seconds < Double(claims.exp) else { throw .expired }
    if let keyRetiresAt, now >= keyRetiresAt { throw .unknownKey }
  }

  /// The delegation it shows; nil for a workload's token.
  public var delegation: Delegation? {
    get throws(TokenProblem) {
      guard let scope = claims.scope, let act = claims.act else { return nil }
      let words = scope.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
      return try Delegation(
        person: claims.sub, actors: act.chain, scopes: Set(words),
        expiresAt: Date(timeIntervalSince1970: Double(claims.exp)))
    }
  }
}

/// Verifies the tokens of one issuer.
public struct TokenVerifier: Sendable {
  private struct Key: Sendable {
    let algorithm: SigningAlgorithm
    let retiresAt: Date?
    let verifying: any JWTAlgorithm
  }

  private let url: IssuerURL
  private let trustDomain: TrustDomain
  private let keys: [String: Key]

  public init(url: IssuerURL, trustDomain: TrustDomain, ring: KeyRing) async throws {
    self.url = url
    self.trustDomain = trustDomain
    var keys: [String: Key] = [:]
    for entry in ring.keys {
      keys[entry.kid] = Key(
        algorithm: entry.algorithm, retiresAt: entry.retireAt, verifying: try await entry.jwk.verifying())
    }
    self.keys = keys
  }

  /// What the token says, if it is ours and good at this moment.
  public func verify(_ token: String, audience: String?, at now: Date) throws(TokenProblem) -> AuthenticToken {
    let authentic = try authenticate(token)
    try authentic.judge(audience: audience, at: now)
    return authentic
  }

  /// What the token says, if it is ours; its time and audience are still to be judged.
  public func authenticate(_ token: String) throws(TokenProblem) -> AuthenticToken {
    let compact = try CompactToken(token)
    guard let key = keys[compact.keyID] else { throw .unknownKey }
    guard compact.algorithm == key.algorithm.rawValue else { throw .otherAlgorithm }
    guard (try? key.verifying.verify(compact.signature, signs: compact.signed)) == true else { throw .signature }
    guard let kind = TokenKind(rawValue: compact.type) else { throw .malformed("its type is unknown") }
    let claims: TokenClaims
    do { claims = try JSONDecoder().decode(TokenClaims.self, from: Data(compact.payload)) } catch {
      throw .malformed("its claims are not those of a token")
    }
    let authentic = AuthenticToken(kind: kind, claims: claims, keyRetiresAt: key.retiresAt)
    try check(authentic)
    return authentic
  }

  private func check(_ token: AuthenticToken) throws(TokenProblem) {
    let claims = token.claims
    guard claims.iss == url.description else { throw .otherIssuer }
    try Audience.check(claims.aud)
    guard claims.iat > 0, claims.nbf == claims.iat, claims.exp > claims.iat,
      claims.exp - claims.iat <= Int64(TokenLifetime.longest)
    else { throw .claim("exp", "is not within \(TokenLifetime.longest) s of iat") }
    var subject: String?
    if let attempt = claims.cordon {
      try attempt.validate()
      guard let named = try? WorkloadSubject(trustDomain, tenant: attempt.tenant, queue: attempt.queue) else {
        throw .claim("cordon", "names no tenant and queue")
      }
      subject = named.description
    }
    switch token.kind {
    case .workload:
      guard claims.scope == nil, claims.act == nil else { throw .claim("act", "stands in a workload's token") }
      guard subject == claims.sub else { throw .claim("sub", "is not that of the tenant and queue") }
    case .delegation:
      guard let delegation = try token.delegation else { throw .claim("act", "is missing") }
      if let subject, delegation.actors.last != subject {
        throw .claim("act", "is not the attempt that the token is for")
      }
    }
  }
}
