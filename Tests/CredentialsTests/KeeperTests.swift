import Foundation
import Jobs
import PrivateCluster
import Synchronization
import TestKit
import Testing

@testable import Credentials

@Suite struct KeeperTests {
  private func definitions(_ place: Place, variable: String? = nil) throws -> [String: CredentialDefinition] {
    let source = variable.map { "{\"environment\": \"\($0)\"}" } ?? "{\"file\": \"\(place.path)/token\"}"
    let who = #""tenants": ["finance"], "queues": ["nightly"]"#
    return try CredentialDefinition.all(
      json(
        """
        {"index": {\(who), "source": \(source), "inject": {"bearer": true}},
         "login": {\(who), "source": \(source), "inject": {"basic": true}},
         "nobody": {"tenants": [], "queues": [], "source": \(source), "inject": {"bearer": true}}}
        """))
  }

  @Test("CR-20: a secret that is rotated goes into the next request, one that is taken away into none")
  func rotation() async throws {
    let place = try Place()
    let keeper = try CredentialKeeper(definitions(place))
    try place.write("app:first-secret", to: "token")
    let first = try await keeper.credential("index", for: attempt())
    try place.write("app:second-secret", to: "token")
    let second = try await keeper.credential("index", for: attempt())
    #expect(first.version != second.version)
    #expect(try second.confidential == [Secret("app:second-secret", version: "")])
    guard case .field(let name, let value) = try #require(second.request) else {
      Issue.record("\(second)")
      return
    }
    #expect(try name == "Authorization" && value == Secret("Bearer app:second-secret", version: ""))
    try FileManager.default.removeItem(atPath: place.path + "/token")
    let error = await #expect(throws: CredentialError.self) { try await keeper.credential("index", for: attempt()) }
    #expect(error?.kind == .unavailable && error?.reason.hasPrefix("credential 'index': \(place.path)/token") == true)
  }

  @Test("CR-09: another tenant's credential, and one that is not there, read the same")
  func permission() async throws {
    let place = try Place()
    try place.write("app:first-secret", to: "token")
    let keeper = try CredentialKeeper(definitions(place))
    _ = try await keeper.credential("index", for: attempt())
    func reason(_ name: String, _ attempt: CredentialAttempt) async -> String? {
      do {
        _ = try await keeper.credential(name, for: attempt)
        return nil
      } catch {
        #expect(error.kind == .forbidden)
        return error.reason.replacing("'\(name)'", with: "NAME")
      }
    }
    let absent = try #require(await reason("other", attempt(tenant: "ops")))
    #expect(await reason("index", attempt(tenant: "ops")) == absent)
    #expect(await reason("nobody", attempt()) != nil)
    #expect(await reason("index", attempt(queue: "daily")) != nil)
  }

  @Test("CR-01: a variable that two definitions name is taken once; one that is missing stops the worker's start")
  func environment() async throws {
    let name = "CORDON_TEST_KEEPER_\(UInt32.random(in: .min ... .max))"
    let place = try Place()
    #expect(throws: CredentialError.self) { try CredentialKeeper(definitions(place, variable: name)) }
    setenv(name, "app:from-the-environment", 1)
    let keeper = try CredentialKeeper(definitions(place, variable: name))
    #expect(getenv(name) == nil)
    for credential in ["index", "login"] { _ = try await keeper.credential(credential, for: attempt()) }
  }

  @Test("CR-13: what a request carried is found in what the job prints, in its own form and in parts")
  func redaction() async throws {
    let place = try Place()
    try place.write("app:open-sesame", to: "token")
    let keeper = try CredentialKeeper(definitions(place))
    let issued = try await keeper.credential("login", for: attempt())
    let redactor = try Redactor(issued.confidential.map { (issued.name, $0) })
    let header = "Basic " + Data("app:open-sesame".utf8).base64EncodedString()
    #expect(redactor.redact("sent \(header), open-sesame!") == "sent Basic [redacted:login], [redacted:login]!")
  }

  @Test("a login is gone when the server that it was made on has it no more, and no other's word counts")
  func gone() async throws {
    let ledger = try await PostgresLedger(admin: "postgres")
    let source = ledger.source()
    let keeper = CredentialKeeper([:], sources: ["ledger": source])
    let role = try await source.fetch(for: attempt()).version
    let place = try #require(await source.place(of: attempt().token))
    #expect(place.hasSuffix("/ledger") && place.hasPrefix(ledger.cluster.socketDirectory))
    #expect(await keeper.gone([("ledger", role, place)]).isEmpty, "it is there")
    try await source.end(attempt())
    for other: String? in ["other.internal:5432/ledger", nil] {
      #expect(await keeper.gone([("ledger", role, other)]).isEmpty)
    }
    #expect(await keeper.gone([("ledger", role, place)]) == [role])
    try await ledger.close()
  }

  @Test func everyoneIsToldOfTheEndAndTheWorstIsSaid() async throws {
    final class Refusing: CredentialSource {
      let told = Mutex(0)
      let kind: CredentialError.Kind
      init(_ kind: CredentialError.Kind) { self.kind = kind }
      func fetch(for attempt: CredentialAttempt) async throws(CredentialError) -> Secret {
        throw CredentialError(.unavailable, "nothing")
      }
      func end(_ attempt: CredentialAttempt) async throws(CredentialError) {
        told.withLock { $0 += 1 }
        throw CredentialError(kind, "is \(kind)")
      }
    }
    let (first, second) = (Refusing(.unavailable), Refusing(.notEnded))
    let keeper = CredentialKeeper([:], sources: ["a": first, "b": second])
    let error = await #expect(throws: CredentialError.self) { try await keeper.end(attempt()) }
    #expect(first.told.withLock { $0 } == 1 && second.told.withLock { $0 } == 1)
    #expect(error?.kind == .notEnded && error?.reason == "credential 'a': is unavailable; credential 'b': is notEnded")
  }
}
