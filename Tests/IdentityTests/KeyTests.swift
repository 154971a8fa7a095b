import Foundation
import Testing

@testable import Identity

@Suite struct KeyTests {
  /// RFC 7638, section 3.1.
  @Test func theThumbprintOfTheSpecificationsExample() throws {
    let members = [
      "kty": "RSA", "e": "AQAB",
      "n":
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst"
        + "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n9"
        + "1CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    ]
    #expect(PublicKey(members: members)?.id == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
  }

  @Test(arguments: SigningAlgorithm.allCases) func aKeySurvivesItsFile(algorithm: SigningAlgorithm) throws {
    let key = try PrivateKey.generate(algorithm)
    #expect(key.pem.hasPrefix("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8")
    #expect(try PrivateKey(algorithm, pem: key.pem).publicKey == key.publicKey)
    let json = try JSONEncoder().encode(key.publicKey)
    #expect(try JSONDecoder().decode(PublicKey.self, from: json) == key.publicKey)
  }

  @Test("a JWK with other members, a short modulus or a coordinate that is too short is refused")
  func refused() throws {
    let good = try PrivateKey.generate(.es256).publicKey.members
    #expect(PublicKey(members: good) != nil)
    #expect(PublicKey(members: good.merging(["d": "AA"]) { $1 }) == nil)
    #expect(PublicKey(members: good.merging(["crv": "P-384"]) { $1 }) == nil)
    #expect(PublicKey(members: good.merging(["x": Base64URL.encode([1, 2, 3])]) { $1 }) == nil)
    #expect(PublicKey(members: good.merging(["kty": "oct"]) { $1 }) == nil)
    let short = Base64URL.encode([UInt8](repeating: 255, count: 128))
    #expect(PublicKey(members: ["kty": "RSA", "e": "AQAB", "n": short]) == nil)
  }

  @Test("base64url has one spelling a value", arguments: ["AA==", "AB", "A", "A+", "A/", "AA\n", " AA", "AAA=", "é"])
  func oneSpelling(text: String) {
    #expect(Base64URL.decode(text) == nil)
  }

  @Test func everyLengthComesBack() {
    for count in 0...64 {
      let bytes = (0..<count).map { UInt8($0 * 37 & 255) }
      #expect(Base64URL.decode(Base64URL.encode(bytes)) == bytes)
    }
  }
}
