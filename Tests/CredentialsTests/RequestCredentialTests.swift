import Credentials
import Testing

@Suite struct RequestCredentialTests {
  private func carried(_ text: String, _ form: InjectionForm) throws -> String {
    func shown(_ secret: Secret) -> String { secret.withBytes { String(decoding: $0, as: UTF8.self) } }
    switch try RequestCredential(Secret(text, version: "7"), as: form) {
    case .field(let name, let value): return "\(name): \(shown(value)) (\(value.version))"
    case .query(let name, let value): return "?\(name)=\(shown(value)) (\(value.version))"
    case .signature(let signer): return signer.scope.service
    }
  }

  @Test func aSecretIsCarriedAsItsFormSays() throws {
    #expect(try carried("hunter2-hunter2", .bearer) == "Authorization: Bearer hunter2-hunter2 (7)")
    // The pair of RFC 7617, section 2.
    #expect(try carried("Aladdin:open sesame", .basic) == "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== (7)")
    #expect(try carried("hunter2-hunter2", .header("X-Key")) == "X-Key: hunter2-hunter2 (7)")
    #expect(try carried("a b&c=d/é-x", .query("k")) == "?k=a%20b%26c%3Dd%2F%C3%A9-x (7)")
  }

  @Test("a secret with a line break becomes no field, nor one beyond ASCII")
  func lines() {
    for text in [
      "hunter2\r\nX-Evil: 1", "hunter2\nhunter2", "hunter2-\u{0}-2", "hunter2-é-2", " hunter2-2", "hunter2-2 ",
    ] {
      for form in [InjectionForm.bearer, .header("X-Key")] {
        #expect(throws: CredentialError.self) { try carried(text, form) }
      }
    }
    for text in ["no-colon-here", ":empty-user", "user:tiny", "user:with\nbreak-in-it"] {
      #expect(throws: CredentialError.self) { try carried(text, .basic) }
    }
  }

  @Test("CR-13: the password of a login and the key of an account are secrets alone, too")
  func parts() throws {
    func parts(_ text: String, _ form: InjectionForm?) throws -> [Secret] {
      try RequestCredential.confidentialParts(of: Secret(text, version: "1"), as: form)
    }
    func secrets(_ texts: String...) throws -> [Secret] { try texts.map { try Secret($0, version: "1") } }
    #expect(try parts("hunter2-hunter2", .bearer) == secrets("hunter2-hunter2"))
    #expect(try parts("app:open:sesame", .basic) == secrets("app:open:sesame", "open:sesame"))
    #expect(try parts("app:open-sesame", nil) == secrets("app:open-sesame", "open-sesame"))
    let scope = AWSScope(region: "r", service: "s3", hasSessionToken: true)
    #expect(
      try parts("AKID:key-key-key:token-token", .awsSignature(scope))
        == secrets("AKID:key-key-key:token-token", "key-key-key", "token-token"))
  }
}
