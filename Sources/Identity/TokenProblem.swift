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
    case .tooDeep: "act: has too many actors, or none"
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
