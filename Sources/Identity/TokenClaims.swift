import FoundationEssentials
import JWTKit

/// What a token of ours says.
public struct TokenClaims: Codable, Equatable, Sendable {
  public let iss: String
  public let sub: String
  /// One audience, as a string and never as a list: a token that two parties accept is one that each can use at the other.
  public let aud: String
  public let iat: Int64
  public let nbf: Int64
  public let exp: Int64
  public let jti: String
  public let scope: String?
  public let act: ActorClaim?
  /// The attempt whose life the token shares; nil in a delegation to somebody who is no job.
  public let cordon: AttemptIdentity?
}

/// The two kinds of tokens. The header's `typ` tells them apart (RFC 8725, section 3.11), so that none is taken for the other.
public enum TokenKind: String, Sendable, CaseIterable {
  /// Who an attempt is. A JWT-SVID, whose specification allows `JWT` here (JWT-SVID, section 2.3).
  case workload = "JWT"
  /// On whose behalf somebody acts.
  case delegation = "cordon-delegation+jwt"
}

/// The payload as JWTKit wants it. What it would verify is judged by `TokenVerifier`, with a clock that is not this host's.
struct Payload: JWTPayload {
  let claims: TokenClaims

  init(_ claims: TokenClaims) { self.claims = claims }
  init(from decoder: any Decoder) throws { claims = try TokenClaims(from: decoder) }
  func encode(to encoder: any Encoder) throws { try claims.encode(to: encoder) }
  func verify(using algorithm: some JWTAlgorithm) {}
}
