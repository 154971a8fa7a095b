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

/// Why a token is not made, or not believed. Nothing of the token is repeated: it may be somebody's secret.
public enum TokenProblem: Error, Equatable, CustomStringConvertible {
  /// The lease's deadline has passed, or is less than a second away.
  case leaseOver
  case claim(String, String)
  case widerScope(String)
  case tooDeep
  case malformed(String)
  case unknownKey
  case otherAlgorithm
  case signature
  case otherIssuer
  case otherAudience
  case notYet
  case expired

  public var description: String {
    switch self {
    case .leaseOver: "the lease is over, so there is nobody to make a token for"
    case .claim(let name, let why): "\(name) \(why)"
    case .widerScope(let scope): "scope: '\(scope)' is not among those of the delegation it follows from"
    case .tooDeep: "act: has not 1 to \(Delegation.deepest) actors"
    case .malformed(let why): "no token of ours: \(why)"
    case .unknownKey: "kid: names no key that is published"
    case .otherAlgorithm: "alg: is not that of the key"
    case .signature: "the signature is not of this key over these bytes"
    case .otherIssuer: "iss: is somebody else"
    case .otherAudience: "aud: is somebody else"
    case .notYet: "nbf: is not yet reached"
    case .expired: "exp: has passed"
    }
  }
}
