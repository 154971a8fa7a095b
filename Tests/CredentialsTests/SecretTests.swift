import Credentials
import Testing

@Suite struct SecretTests {
  private let text = "hunter2-hunter2"

  @Test func aSecretPrintsAsNothingInEveryWayThatSwiftPrints() throws {
    struct Holder {
      let secret: Secret
      let maybe: Secret?
      let list: [String: Secret]
    }
    let secret = try Secret(text, version: "1")
    let holder = Holder(secret: secret, maybe: secret, list: ["a": secret])
    let field = try RequestCredential(secret, as: .bearer)
    let signer = try AWSSigner(Secret("AKID:\(text)", version: "1"), for: AWSScope(region: "r", service: "s3"))
    let login = try UserPassword(Secret("app:\(text)", version: "1"))
    var printed =
      "\(secret) \(holder) \(field) \(signer) \(login) " + String(reflecting: secret) + String(reflecting: holder)
    for value in [secret, holder, field, signer, login] as [Any] { dump(value, to: &printed) }
    printed += Mirror(reflecting: secret).children.map { "\($0)" }.joined()
    #expect(printed.contains("[secret]") && !printed.contains("hunter2"))
    #expect(Mirror(reflecting: secret).children.isEmpty)
  }

  @Test func itIsComparedAsAWholeAndWithoutItsVersion() throws {
    let secret = try Secret(text, version: "1")
    #expect(try secret == Secret(text, version: "2"))
    for place in text.indices {
      var other = text
      other.replaceSubrange(place...place, with: "X")
      #expect(try secret != Secret(other, version: "1"))
    }
    #expect(try secret != Secret(text + "3", version: "1"))
  }

  @Test("CR-14: a secret that is short is refused where it is defined")
  func bounds() throws {
    for count in 0..<Secret.leastBytes {
      #expect(throws: CredentialError.self) { try Secret([UInt8](repeating: 65, count: count), version: "1") }
    }
    #expect(try Secret([UInt8](repeating: 65, count: Secret.leastBytes), version: "1").count == Secret.leastBytes)
    #expect(throws: CredentialError.self) {
      try Secret([UInt8](repeating: 65, count: Secret.mostBytes + 1), version: "1")
    }
    // So is a part of one that is taken out of what is printed by itself.
    #expect(throws: CredentialError.self) { try UserPassword(Secret("somebody:short", version: "1")) }
  }
}
