import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// Which migrations are pending, as a value.
@Suite struct MigrationPlanTests {
  private let carried = ["0001_a", "0002_b", "0003_c"].map { Migration(name: $0, sql: "select '\($0)'")! }

  private func applied(_ count: Int) -> [AppliedMigration] {
    carried.prefix(count).map {
      AppliedMigration(version: $0.version, name: $0.name, checksum: $0.checksum.description)
    }
  }

  @Test(arguments: 0...3) func theRestIsPending(_ count: Int) throws {
    let pending = try MigrationPlan.pending(carried: carried, applied: applied(count))
    #expect(pending == Array(carried.dropFirst(count)))
  }

  @Test func newerIsRefused() {
    let beyond = applied(3) + [AppliedMigration(version: 4, name: "0004_d", checksum: "sha256:x")]
    #expect(throws: SchemaError.newer(database: 4, binary: 3)) {
      try MigrationPlan.pending(carried: carried, applied: beyond)
    }
  }

  @Test func changedIsRefusedByName() {
    var rows = applied(2)
    rows[1] = AppliedMigration(version: 2, name: "0002_b", checksum: "sha256:other")
    #expect(
      throws: SchemaError.changed(
        file: "0002_b", applied: "sha256:other", carried: carried[1].checksum.description)
    ) { try MigrationPlan.pending(carried: carried, applied: rows) }
    rows[1] = AppliedMigration(version: 2, name: "0002_z", checksum: carried[1].checksum.description)
    #expect(throws: SchemaError.self) { try MigrationPlan.pending(carried: carried, applied: rows) }
  }

  @Test(arguments: ["", "x", "0001", "_a", "0000_a", "a_1"]) func otherNamesAreNone(_ name: String) {
    #expect(Migration(name: name, sql: "") == nil)
  }

  @Test func errorsSayTheFix() {
    #expect(SchemaError.older(database: 0, binary: 3).description.contains("cordon migrate"))
    #expect(SchemaError.older(database: 2, binary: 3).description.contains("cordon migrate"))
    #expect(SchemaError.newer(database: 4, binary: 3).description.contains("update cordon"))
    #expect(
      SchemaError.changed(file: "0002_b", applied: "x", carried: "y").description.contains("sql/migrations/0002_b.sql"))
  }
}

@Suite(.database) struct MigrationTests {
  private var store: Store { Member.superuser.store }

  /// What waits and runs under the schema before lanes is there after it, in its order.
  @Test func waitingJobsMoveIntoLanes() async throws {
    _ = try await store.migrate(Array(Migration.carried.prefix(16))) { _ in }
    let producer = try await Member.make("cordon_producer")
    let (worker, boss) = (try await Member.make("cordon_worker"), try await Member.make("cordon_operator"))
    _ = try await boss.column("select cordon.add_principal($1, 'alpha')::text", [Parameter(producer.role)])
    func put(_ more: String) async throws -> String? {
      try await producer.column("select cordon.enqueue('default', '\(sleepJob)', \(more))::text")[0]
    }
    let last = try await put("priority => 9")
    let held = try await put("priority => 0")
    let first = try await put("priority => 4")
    let later = try await put("run_at => now() + interval '1 hour'")
    let id = try await worker.column(
      "select cordon.register_worker('w', 'h', 'b', array['default'], 10, 30)::text")[0]
    #expect(try await worker.column("select job::text from cordon.claim(\(id ?? ""), 1)") == [held])

    _ = try await store.migrate()
    let number = try #require(id.flatMap { Int64($0) })
    let states = try await producer.store.jobs().map { try json($0)["state"]?.string }
    #expect(states == ["scheduled", "queued", "running", "queued"])
    #expect(try await producer.store.cancel(try #require(later.flatMap { JobID($0) })) == "cancelled")
    #expect(try await worker.store.claim(worker: number, limit: 5).map(\.job.description) == [first, last])
  }

  @Test func migratesFromNothingOnce() async throws {
    #expect(try await store.databaseVersion() == 0)
    await #expect(throws: SchemaError.older(database: 0, binary: Store.schemaVersion)) {
      try await store.requireCurrentSchema()
    }
    let lines = Log()
    let first = try await store.migrate { lines.add($0) }
    #expect(first.from == 0 && first.to == Store.schemaVersion)
    #expect(lines.count == Store.schemaVersion)
    let second = try await store.migrate { lines.add($0) }
    #expect(second.from == Store.schemaVersion && second.to == Store.schemaVersion)
    #expect(lines.count == Store.schemaVersion)
    try await store.requireCurrentSchema()
    // Everything belongs to the owner, and so to nobody who logs in.
    let strange = try await admin(
      """
      select relname from pg_class where relnamespace = 'cordon'::regnamespace and relowner <> 'cordon_owner'::regrole
      """)
    #expect(strange == [])
    // But for those that workers of other tests' databases have.
    #expect(
      try await admin(
        """
        select rolname from pg_roles
        where rolname like 'cordon\\_%' and rolcanlogin and rolname !~ '^cordon_(join|worker)_[0-9a-f]{16}$'
        """) == [])
  }

  @Test func changedFileIsRefused() async throws {
    _ = try await store.migrate()
    try await Database.current.execute(
      """
      alter table cordon.schema_version disable trigger keep;
      update cordon.schema_version set checksum = 'sha256:' || repeat('0', 64) where version = 3
      """)
    let name = try #require(Migration.carried.first { $0.version == 3 }?.name)
    let error = await #expect(throws: SchemaError.self) { try await store.migrate() }
    #expect(error?.description.contains("sql/migrations/\(name).sql") == true)
  }

  @Test func newerDatabaseIsRefused() async throws {
    _ = try await store.migrate()
    let beyond = Store.schemaVersion + 1
    try await Database.current.execute(
      "insert into cordon.schema_version (version, name, checksum) "
        + "values (\(beyond), '\(beyond)_later', 'sha256:' || repeat('0', 64))")
    let newer = SchemaError.newer(database: beyond, binary: Store.schemaVersion)
    await #expect(throws: newer) { try await store.migrate() }
    await #expect(throws: newer) { try await store.requireCurrentSchema() }
  }

  /// A migration that fails leaves nothing of itself or of those before it.
  @Test func failureLeavesNothing() async throws {
    let broken = try #require(Migration(name: "9999_broken", sql: "create table cordon.half (a int); select 1 / 0"))
    let error = try await refusal { try await store.migrate(Migration.carried + [broken], report: { _ in }) }
    #expect(error.sqlState == "22012")
    #expect(try await store.databaseVersion() == 0)
    #expect(try await admin("select nspname from pg_namespace where nspname = 'cordon'") == [])
  }

  @Test func concurrentMigrationsAreOne() async throws {
    let url = Database.current.url()
    let results = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<6 {
        group.addTask {
          let pool = Pool(ConnectionSettings(url), maximum: 1)
          let versions = try await Store(pool: pool).migrate()
          await pool.close()
          return versions.from
        }
      }
      return try await group.reduce(into: [Int]()) { $0.append($1) }
    }
    #expect(results.filter { $0 == 0 }.count == 1)
    #expect(results.filter { $0 == Store.schemaVersion }.count == 5)
    #expect(try await admin("select count(*) from cordon.schema_version") == ["\(Store.schemaVersion)"])
  }

  /// Not only superusers: CREATEROLE and CREATE on the database are enough.
  @Test func anOrdinaryOwnerCanMigrate() async throws {
    let member = try await Member.make()
    try await Database.current.execute(
      "alter role \(member.role) createrole; grant create on database \(Database.current.name) to \(member.role)")
    let versions = try await member.store.migrate()
    #expect(versions.to == Store.schemaVersion)
    #expect(try await admin("select distinct applied_by::text from cordon.schema_version") == [member.role])
    #expect(try await member.store.migrate().from == Store.schemaVersion)
  }

  @Test func withoutRightsNothingIsMigrated() async throws {
    let stranger = try await Member.make()
    let error = try await refusal { try await stranger.store.migrate() }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("this role cannot migrate"))
    #expect(error.hint?.contains("CREATEROLE") == true && error.hint?.contains("superuser") == true)
    #expect(try await store.databaseVersion() == 0)
    // And where the schema is there already.
    _ = try await store.migrate()
    let producer = try await Member.make("cordon_producer")
    let later = try await refusal { try await producer.store.migrate() }
    #expect(later.sqlState == "42501" && later.hint?.contains("cordon_owner") == true)
    #expect(!later.description.contains("\n"))
  }

  /// Every call on a database without the schema, or with an older one, says what to do about it.
  @Test func missingSchemaIsNamed() async throws {
    let store = store
    let nobody = try #require(JobID("00000000-0000-7000-8000-000000000000"))
    let missing = SchemaError.older(database: 0, binary: Store.schemaVersion)
    for call: @Sendable () async throws -> Void in [
      { _ = try await store.enqueue(queue: "default", specification: sleepJob) },
      { _ = try await store.enqueueMany(queue: "default", specifications: [sleepJob]) },
      { _ = try await store.jobs() }, { _ = try await store.record(nobody) }, { _ = try await store.rescue(limit: 1) },
      { try await store.addQueue(name: "q") }, { try await store.addPrincipal(role: "r", tenant: "t") },
      { _ = try await store.claim(worker: 1, limit: 1) }, { try await store.retireWorker(1) },
    ] { await #expect(throws: missing) { try await call() } }

    _ = try await store.migrate(Array(Migration.carried.prefix(3)), report: { _ in })
    await #expect(throws: SchemaError.older(database: 3, binary: Store.schemaVersion)) { try await store.jobs() }
    // What is missing in a schema of this version is no matter of versions.
    _ = try await store.migrate()
    try await Database.current.execute("drop function cordon.jobs(text, text, int)")
    let error = try await refusal { try await store.jobs() }
    #expect(error.sqlState == "42883")
  }
}

private final class Log: @unchecked Sendable {
  private let lock = NSLock()
  private var lines: [String] = []

  func add(_ line: String) { lock.withLock { lines.append(line) } }
  var count: Int { lock.withLock { lines.count } }
}
