import Crypto

/// What PostgreSQL keeps of a password, computed here so that the password itself is never sent to it.
///
/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as in `pg_authid.rolpassword`; PostgreSQL takes a password that has
/// this form for the verifier. The keys are those of RFC 5802, section 3, with the hash of RFC 7677.
enum SCRAMVerifier {
  /// PostgreSQL's own, and the least of RFC 7677. More would not help: what is hashed here is 32 random bytes.
  static let iterations = 4_096

  /// - Parameter password: ASCII, of which SASLprep (RFC 4013) makes itself.
  static func text(password: [UInt8], salt: [UInt8]) -> String {
    let keys = keys(password: password, salt: salt, iterations: iterations)
    return "SCRAM-SHA-256$\(iterations):\(Base64.text(salt))$\(Base64.text(keys.stored)):\(Base64.text(keys.server))"
  }

  static func keys(password: [UInt8], salt: [UInt8], iterations: Int) -> (stored: [UInt8], server: [UInt8]) {
    let salted = SymmetricKey(data: saltedPassword(password, salt, iterations))
    let client = HMAC<SHA256>.authenticationCode(for: Array("Client Key".utf8), using: salted)
    let server = HMAC<SHA256>.authenticationCode(for: Array("Server Key".utf8), using: salted)
    return (Array(SHA256.hash(data: Array(client))), Array(server))
  }

  /// `Hi` of RFC 5802: PBKDF2 with HMAC and one block.
  private static func saltedPassword(_ password: [UInt8], _ salt: [UInt8], _ iterations: Int) -> [UInt8] {
    let key = SymmetricKey(data: password)
    var round = Array(HMAC<SHA256>.authenticationCode(for: salt + [0, 0, 0, 1], using: key))
    var sum = round
    for _ in 1..<iterations {
      round = Array(HMAC<SHA256>.authenticationCode(for: round, using: key))
      for index in sum.indices { sum[index] ^= round[index] }
    }
    return sum
  }
}
