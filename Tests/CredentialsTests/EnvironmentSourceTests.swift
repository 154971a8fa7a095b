import Credentials
import Foundation
import Testing

@Suite(.serialized) struct EnvironmentSourceTests {
  @Test("CR-01: a variable is taken away, and its bytes with it")
  func taking() async throws {
    let name = "CORDON_TEST_SECRET_\(UInt32.random(in: .min ... .max))"
    setenv(name, "from-the-environment", 1)
    let memory = try #require(getenv(name))
    let source = try EnvironmentSource(taking: name)
    #expect(try await source.fetch(for: attempt()) == Secret("from-the-environment", version: ""))
    #expect(getenv(name) == nil)
    // The C library keeps the memory of a variable that is gone.
    #expect(UnsafeRawBufferPointer(start: memory, count: 20).allSatisfy { $0 == 0 })
  }

  @Test func oneThatIsMissingOrNoSecretIsRefusedAndTakenAwayToo() {
    let name = "CORDON_TEST_SECRET_\(UInt32.random(in: .min ... .max))"
    #expect(throws: CredentialError(.unavailable, "the environment variable \(name) is not set")) {
      try EnvironmentSource(taking: name)
    }
    setenv(name, "tiny", 1)
    #expect(throws: CredentialError.self) { try EnvironmentSource(taking: name) }
    #expect(getenv(name) == nil)
  }
}
