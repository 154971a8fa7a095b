import Crypto
import CryptoExtras
import FoundationEssentials
import JWTKit

/// A private key of the issuer. It leaves this type as PEM for its file, and otherwise not at all.
struct PrivateKey: Sendable {
  private enum Material: Sendable {
    case p256(P256.Signing.PrivateKey)
    case rsa(_RSA.Signing.PrivateKey)
  }

  private let material: Material
  let publicKey: PublicKey

  /// Draws a new one.
  ///
  /// RSA has 3072 bits: 112 bits of strength, which 2048 bits have, are not to be relied on beyond 2030 (NIST SP 800-57 part 1 rev. 5,
  /// table 4).
  static func generate(_ algorithm: SigningAlgorithm) throws -> PrivateKey {
    switch algorithm {
    case .es256: try PrivateKey(.p256(P256.Signing.PrivateKey()))
    case .rs256: try PrivateKey(.rsa(_RSA.Signing.PrivateKey(keySize: .bits3072)))
    }
  }

  /// From the PKCS#8 that `pem` wrote.
  init(_ algorithm: SigningAlgorithm, pem: String) throws {
    switch algorithm {
    case .es256: try self.init(.p256(P256.Signing.PrivateKey(pemRepresentation: pem)))
    case .rs256: try self.init(.rsa(_RSA.Signing.PrivateKey(pemRepresentation: pem)))
    }
  }

  private init(_ material: Material) throws {
    self.material = material
    switch material {
    case .p256(let key):
      let coordinates = Array(key.publicKey.rawRepresentation)
      publicKey = .p256(x: Array(coordinates.prefix(32)), y: Array(coordinates.dropFirst(32)))
    case .rsa(let key):
      let numbers = try key.publicKey.getKeyPrimitives()
      publicKey = .rsa(
        modulus: Array(numbers.modulus.drop { $0 == 0 }), exponent: Array(numbers.publicExponent.drop { $0 == 0 }))
    }
  }

  var pem: String {
    switch material {
    case .p256(let key): key.pemRepresentation
    case .rsa(let key): key.pkcs8PEMRepresentation
    }
  }

  /// The compact serialisation of a JWS over the payload (RFC 7515, section 7.1), with `alg`, `kid` and `typ` in its header.
  func sign(_ payload: some JWTPayload, type: String) async throws -> String {
    let keys = JWTKeyCollection()
    let id = JWKIdentifier(string: publicKey.id)
    switch material {
    case .p256(let key): await keys.add(ecdsa: try ES256PrivateKey(backing: key), kid: id)
    case .rsa(let key):
      await keys.add(rsa: try Insecure.RSA.PrivateKey(backing: key), digestAlgorithm: .sha256, kid: id)
    }
    var header = JWTHeader()
    header.typ = type
    return try await keys.sign(payload, kid: id, header: header)
  }
}

extension PublicKey {
  /// What checks signatures of this key, with its one algorithm, whatever a token says.
  ///
  /// It is taken out of a collection of one key. A collection of several gives the first of them for a name that it does not know.
  func verifying() async throws -> any JWTAlgorithm {
    let keys = JWTKeyCollection()
    switch self {
    case .p256(let x, let y):
      await keys.add(
        ecdsa: try ES256PublicKey(parameters: (Data(x).base64EncodedString(), Data(y).base64EncodedString())))
    case .rsa(let modulus, let exponent):
      await keys.add(
        rsa: try Insecure.RSA.PublicKey(modulus: Base64URL.encode(modulus), exponent: Base64URL.encode(exponent)),
        digestAlgorithm: .sha256)
    }
    return try await keys.getKey()
  }
}
