import Foundation
import TestKit
import Testing

extension TownTests {
  @Test("Vault gives each version to who has the token, says which are deleted, and counts what it was asked")
  func vault() async throws {
    let town = try await Self.shared.value
    let vault = try await town.vault()
    #expect(try vault.put("apps/mirror", ["password": "first"]) == 1)
    #expect(try vault.put("apps/mirror", ["password": "second"]) == 2)
    let (url, token) = ("\(vault.url)/v1/secret/data/apps/mirror", "X-Vault-Token: \(vault.token)")
    #expect(try await ask(town, ["--header", token, url]).body.contains(#""data": {"password": "second"}"#))
    #expect(try await ask(town, ["--header", token, url + "?version=1"]).body.contains(#"{"password": "first"}"#))
    try vault.delete("apps/mirror", version: 2)
    let deleted = try await ask(town, ["--header", token, url])
    #expect(deleted.status == "404" && deleted.body.contains(#""version": 2"#) && !deleted.body.contains("second"))
    #expect(try await ask(town, ["--header", token, url + "?version=3"]).status == "404")
    #expect(try await ask(town, ["--header", "X-Vault-Token: other", url]).status == "403")
    #expect(try await ask(town, [url]).status == "403")
    #expect(try vault.requests().count == 6)
    #expect(try vault.requests().first?.headers["x-vault-token"] == vault.token)
  }
}
