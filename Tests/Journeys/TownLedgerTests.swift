import Foundation
import TestKit
import Testing

extension TownTests {
  @Test("psql verifies the ledger, reads as a member of the group what the group may read, and no more")
  func ledger() async throws {
    let town = try await Self.shared.value
    let ledger = try await town.ledger()
    try await ledger.execute("CREATE ROLE clerk LOGIN PASSWORD 'town' IN ROLE \(Town.Ledger.reader)")
    func psql(_ sql: String, host: String = Town.Ledger.host, mode: String = "verify-full") async throws -> Tool.Answer
    {
      try await town.run(
        ["/usr/bin/psql", "-XAtc", sql],
        environment: [
          "PGHOST": host, "PGDATABASE": Town.Ledger.database, "PGUSER": "clerk", "PGPASSWORD": "town",
          "PGSSLMODE": mode, "PGSSLROOTCERT": town.certificates.caFile, "HOME": "/",
        ])
    }
    let sum = try await psql("SELECT sum(cents) FROM books.entry")
    #expect(sum.text == "925\n", "\(sum.stderr)")
    #expect(try await psql("INSERT INTO books.entry VALUES (9, 'x', 1)").stderr.contains("permission denied"))
    #expect(try await psql("SELECT * FROM salary").stderr.contains("permission denied"))
    #expect(try await psql("SELECT 1", mode: "disable").stderr.contains("no pg_hba.conf entry"))
    // The same server by a name that its certificate does not have.
    try await town.dns().set("impostor.internal", to: [.addresses([ledger.address])])
    #expect(try await psql("SELECT 1", host: "impostor.internal").stderr.contains("does not match host name"))
    #expect(try await ledger.ask("SELECT rolname::text FROM pg_roles WHERE rolname = 'clerk'") == ["clerk"])
  }
}
