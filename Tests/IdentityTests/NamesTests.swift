import Testing

@testable import Identity

@Suite struct NamesTests {
  @Test(
    arguments: [
      "https://id.example", "https://id.example:8443", "https://id.example/cordon/prod", "https://localhost",
    ])
  func issuers(text: String) throws {
    #expect(try IssuerURL(text).description == text)
  }

  @Test(
    "an issuer that could be spelt in two ways is none",
    arguments: [
      "", "http://id.example", "https://", "https:///x", "https://id.example/", "https://ID.example",
      "https://id.example//x",
      "https://id.example/../x", "https://id.example/x?y", "https://id.example/x#y", "https://id.example:",
      "https://id.example:0443",
      "https://id.example:70000", "https://user@id.example", "https://id.example/%41", "https://id..example",
      "https://id.example\n",
      "https://id.example:1:2", "HTTPS://id.example", "https://" + String(repeating: "a", count: 300),
    ])
  func noIssuers(text: String) {
    #expect(throws: NameProblem.self, "\(text)") { try IssuerURL(text) }
  }

  @Test func theSubjectIsTheSameForEveryAttemptOfAQueue() throws {
    let subject = try WorkloadSubject(TrustDomain("cordon.example"), tenant: "Treasury-1", queue: "recon.eu_1")
    #expect(subject.description == "spiffe://cordon.example/tenant/Treasury-1/queue/recon.eu_1")
  }

  @Test(
    "a component that a SPIFFE ID cannot hold is refused, not encoded",
    arguments: [
      "", ".", "..", "a/b", "a%2fb", "a b", "a\0b", "a\nb", "ä", "a?b", "a#b", "a:b", "a@b",
      String(repeating: "a", count: 64),
    ])
  func components(text: String) throws {
    let domain = try TrustDomain("cordon.example")
    #expect(throws: NameProblem.self) { try WorkloadSubject(domain, tenant: text, queue: "q") }
    #expect(throws: NameProblem.self) { try WorkloadSubject(domain, tenant: "t", queue: text) }
  }

  @Test(arguments: [
    "", "Cordon.example", "cordon.example:443", "a/b", "a%b", "a b", String(repeating: "a", count: 256),
  ])
  func trustDomains(text: String) {
    #expect(throws: NameProblem.self) { try TrustDomain(text) }
  }

  @Test func whatIsRefusedIsShownWithoutItsControlBytes() {
    do { _ = try TrustDomain("a\u{1b}[2Jé") } catch {
      #expect(error.description.hasPrefix("trust domain: 'a?[2J?' is not "))
    }
  }
}
