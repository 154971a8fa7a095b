import Crypto
import Foundation
import Testing

@testable import Credentials

@Suite struct SCRAMVerifierTests {
  /// The exchange of RFC 7677, section 3: what the client proves fits the stored key, what the server signs the other.
  @Test func theKeysAreThoseOfTheRFCsExchange() throws {
    let salt = try Array(#require(Data(base64Encoded: "W22ZaJ0SNY7soEsUEjb6gQ==")))
    let keys = SCRAMVerifier.keys(password: Array("pencil".utf8), salt: salt, iterations: 4_096)
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    let message = Data(
      "n=user,r=rOprNGfwEbeRWgbNEkqO,r=\(nonce),s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=\(nonce)".utf8)
    let signed = HMAC<SHA256>.authenticationCode(for: message, using: SymmetricKey(data: keys.server))
    #expect(Data(signed).base64EncodedString() == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    let proof = try #require(Data(base64Encoded: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
    let mask = HMAC<SHA256>.authenticationCode(for: message, using: SymmetricKey(data: keys.stored))
    let client = zip(proof, Data(mask)).map { $0 ^ $1 }
    #expect(Array(SHA256.hash(data: client)) == keys.stored)
  }

  @Test func theTextHasTheFormThatPostgreSQLTakes() {
    let text = SCRAMVerifier.text(password: Array("pencil-pencil".utf8), salt: Array(0..<16))
    #expect(
      text.wholeMatch(of: /SCRAM-SHA-256\$4096:[A-Za-z0-9+\/]{22}==\$[A-Za-z0-9+\/]{43}=:[A-Za-z0-9+\/]{43}=/) != nil)
  }
}
