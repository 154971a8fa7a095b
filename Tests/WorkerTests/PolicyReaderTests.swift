import Jobs
import Sandbox
import Store
import Testing

@testable import Worker

@Suite("Policies of claims")
struct PolicyReaderTests {
  private func claim(_ document: String, named digest: Digest? = nil) -> Claim {
    Claim(
      job: JobID("00000000-0000-7000-8000-000000000001")!, attempt: 1, token: 1, tenant: "t", queue: "q",
      enqueuedBy: "p", specification: JobSpecification(runtime: .exec, argv: ["/usr/bin/true"]),
      specificationError: nil, limits: Limits(), policy: digest ?? sha256(Array(document.utf8)),
      policyDocument: document)
  }

  @Test("a document is what its digest names, or the job is refused; the right one is taken afterwards")
  func digest() async throws {
    let reader = PolicyReader()
    let right = claim(#"{"version": 1, "outputs": {"on": "disk"}}"#)
    let forged = claim("{}", named: right.policy)
    await #expect(throws: Refusal.self) { try await reader.terms(of: forged) }
    #expect(try await reader.terms(of: right).outputs == .disk)
    // What was checked stays what it is, whatever comes under its name.
    #expect(try await reader.terms(of: forged).outputs == .disk)
  }

  @Test("a document that cannot be read is refused each time")
  func unreadable() async {
    let reader = PolicyReader()
    for _ in 0..<2 { await #expect(throws: Refusal.self) { try await reader.terms(of: claim("{")) } }
  }
}
