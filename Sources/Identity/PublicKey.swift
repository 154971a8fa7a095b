import Crypto

/// A public key as its JWK has it (RFC 7517, RFC 7518 sections 6.2 and 6.3), and the name that follows from it.
public enum PublicKey: Equatable, Sendable {
  /// The coordinates of a point on P-256, 32 bytes each.
  case p256(x: [UInt8], y: [UInt8])
  /// Modulus and exponent, without zeros in front.
  case rsa(modulus: [UInt8], exponent: [UInt8])

  public var algorithm: SigningAlgorithm {
    switch self {
    case .p256: .es256
    case .rsa: .rs256
    }
  }

  /// The thumbprint of RFC 7638 with SHA-256: a name that whoever has the key computes for himself, so no file and no header can give
  /// it to another key.
  public var id: String {
    // The required members in their order, without white space; base64url needs no escaping.
    let text =
      switch self {
      case .p256(let x, let y):
        #"{"crv":"P-256","kty":"EC","x":"\#(Base64URL.encode(x))","y":"\#(Base64URL.encode(y))"}"#
      case .rsa(let modulus, let exponent):
        #"{"e":"\#(Base64URL.encode(exponent))","kty":"RSA","n":"\#(Base64URL.encode(modulus))"}"#
      }
    return Base64URL.encode(SHA256.hash(data: Array(text.utf8)))
  }

  /// The members of its JWK that are of the key itself.
  var members: [String: String] {
    switch self {
    case .p256(let x, let y): ["kty": "EC", "crv": "P-256", "x": Base64URL.encode(x), "y": Base64URL.encode(y)]
    case .rsa(let modulus, let exponent):
      ["kty": "RSA", "n": Base64URL.encode(modulus), "e": Base64URL.encode(exponent)]
    }
  }

  /// Nil unless the members are those of a key that we would make, and no others.
  init?(members: [String: String]) {
    func bytes(_ name: String) -> [UInt8]? { members[name].flatMap { Base64URL.decode($0) } }
    switch members["kty"] {
    case "EC":
      guard members.count == 4, members["crv"] == "P-256", let x = bytes("x"), let y = bytes("y"), x.count == 32,
        y.count == 32
      else { return nil }
      self = .p256(x: x, y: y)
    case "RSA":
      guard members.count == 3, let modulus = bytes("n"), let exponent = bytes("e"), modulus.first != 0,
        modulus.count >= Self.leastModulusBytes, exponent.first != 0, !exponent.isEmpty
      else { return nil }
      self = .rsa(modulus: modulus, exponent: exponent)
    default: return nil
    }
  }

  /// 2048 bits, the least that RFC 7518, section 3.3, allows for RS256.
  private static let leastModulusBytes = 256
}

extension PublicKey: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let key = PublicKey(members: try container.decode([String: String].self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "no public JWK on P-256 or of RSA")
    }
    self = key
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(members)
  }
}
