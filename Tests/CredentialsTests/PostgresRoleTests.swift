import Credentials
import Foundation
import Postgres
import PrivateCluster
import Synchronization
import TestKit
import Testing

@Suite(.serialized) struct PostgresRoleTests {
  /// Every case with a superuser, and with a role that may make roles and nothing else.
  private static let admins = ["postgres", "cordon_admin"]

  private final class Flag: Sendable {
    private let value = Mutex(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
  }

  private func roles(_ ledger: PostgresLedger) async throws -> [String] {
    try await ledger.ask("SELECT rolname FROM pg_roles WHERE rolname LIKE 'cordon\\_job\\_%' ORDER BY 1")
  }

  private func sessions(_ ledger: PostgresLedger, of user: String) async throws -> Int {
    Int(try await ledger.ask("SELECT count(*)::text FROM pg_stat_activity WHERE usename = '\(user)'")[0])!
  }

  private func wait(_ ledger: PostgresLedger, for user: String, sessions count: Int) async throws {
    let end = ContinuousClock.now + Duration.seconds(10).patiently
    while try await sessions(ledger, of: user) != count {
      guard ContinuousClock.now < end else { throw Problem("\(user) has not \(count) sessions") }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  @Test("CR-07: a login works while its attempt does; then its sessions are cut and it is gone", arguments: admins)
  func life(admin: String) async throws {
    let ledger = try await PostgresLedger(admin: admin)
    let source = ledger.source()
    let secret = try await source.fetch(for: attempt())
    let login = try UserPassword(secret)
    #expect(secret.version == login.user && login.user.hasPrefix("cordon_job_4711_"))
    #expect(login.password.count == 43)
    // Real clients, by SCRAM, with what the group may and no more.
    #expect(try await ledger.psql(login, "SELECT sum(id) FROM entry").answer() == (0, "3"))
    #expect(try await ledger.psql(login, "INSERT INTO entry VALUES (3)").answer().text.contains("permission denied"))
    let wrong = try UserPassword(Secret("\(login.user):wrong-password", version: "1"))
    #expect(try await ledger.psql(wrong, "SELECT 1").answer().text.contains("password authentication failed"))
    // Asked again, it is the same login.
    #expect(try await source.fetch(for: attempt()) == secret)
    #expect(try await roles(ledger) == [login.user])

    let open = try ledger.psql(login, "SELECT pg_sleep(600)")
    try await wait(ledger, for: login.user, sessions: 1)
    let started = ContinuousClock.now
    try await source.end(attempt())
    let took = ContinuousClock.now - started
    #expect(try await open.answer().text.contains("terminating connection"))
    #expect(try await sessions(ledger, of: login.user) == 0)
    #expect(try await ledger.psql(login, "SELECT 1").answer().status == 2)
    #expect(try await roles(ledger).isEmpty)
    print("postgres role: ended in \(took) by \(admin), one open session cut")
    // What is over stays over, and ending it twice is no fault.
    await #expect(throws: CredentialError.self) { try await source.fetch(for: attempt()) }
    try await source.end(attempt())
    #expect(try await roles(ledger).isEmpty)
    try await ledger.close()
  }

  @Test("CR-16: the password stands in no log, activity or statistics of the server", arguments: admins)
  func traces(admin: String) async throws {
    let ledger = try await PostgresLedger(admin: admin)
    let source = ledger.source()
    // Somebody watches all the time, too.
    let stop = Flag()
    let watching = Task {
      var seen = ""
      while !stop.isSet {
        seen += try await ledger.ask("SELECT string_agg(query, ' ') FROM pg_stat_activity").joined()
      }
      return seen
    }
    let login = try UserPassword(await source.fetch(for: attempt()))
    #expect(try await ledger.psql(login, "SELECT 1").answer() == (0, "1"))
    let password = login.password.withBytes { String(decoding: $0, as: UTF8.self) }
    stop.set()
    let activity = try await watching.value
    let statistics = try await ledger.ask("SELECT query FROM pg_stat_statements").joined()
    let log = try ledger.log
    // The control: what is not the password does stand there.
    #expect(log.contains(login.user) && statistics.contains("CREATE ROLE") && activity.contains("pg_stat_activity"))
    for text in [log, statistics, activity] { #expect(!text.contains(password)) }
    let kept = try await ledger.ask("SELECT rolpassword FROM pg_authid WHERE rolname = '\(login.user)'")
    #expect(kept.count == 1 && kept[0].hasPrefix("SCRAM-SHA-256$4096:") && !kept[0].contains(password))
    try await source.end(attempt())
    #expect(try !ledger.log.contains(password))
    try await ledger.close()
  }

  @Test("CR-07: a worker that shuts down ends its logins, though its tasks are cancelled")
  func cancellation() async throws {
    let ledger = try await PostgresLedger(admin: "cordon_admin")
    let source = ledger.source()
    let login = try UserPassword(await source.fetch(for: attempt()))
    let open = try ledger.psql(login, "SELECT pg_sleep(600)")
    try await wait(ledger, for: login.user, sessions: 1)
    let ending = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await source.end(attempt())
    }
    try await ending.value
    #expect(try await open.answer().text.contains("terminating connection"))
    #expect(try await roles(ledger).isEmpty)
    try await ledger.close()
  }

  @Test("CR-11: a login does not outlive its attempt's deadline, whatever becomes of the worker")
  func deadline() async throws {
    let ledger = try await PostgresLedger(admin: "cordon_admin")
    let login = try UserPassword(await ledger.source().fetch(for: attempt(for: .seconds(90))))
    let left = try await ledger.ask(
      "SELECT extract(epoch FROM rolvaliduntil - clock_timestamp())::text FROM pg_roles WHERE rolname = '\(login.user)'"
    )
    #expect((60...90).contains(try #require(Double(left[0]))))
    await #expect(throws: CredentialError.self) { try await ledger.source().fetch(for: attempt(1, for: .zero)) }
    #expect(try await roles(ledger) == [login.user])
    // The server's own clock says when it is over.
    try await ledger.execute("ALTER ROLE \(login.user) VALID UNTIL 'yesterday'")
    #expect(try await ledger.psql(login, "SELECT 1").answer().status == 2)
    try await ledger.close()
  }

  @Test("no more sessions than the definition says, also while others end and begin")
  func connections() async throws {
    let ledger = try await PostgresLedger(admin: "cordon_admin")
    let source = ledger.source(connections: 1)
    let login = try UserPassword(await source.fetch(for: attempt()))
    let open = try ledger.psql(login, "SELECT pg_sleep(600)")
    try await wait(ledger, for: login.user, sessions: 1)
    #expect(try await ledger.psql(login, "SELECT 1").answer().text.contains("too many connections"))
    try await source.end(attempt())
    #expect(try await open.answer().status != 0)
    try await ledger.close()
  }

  @Test("CR-07: who keeps coming back, and gives himself another password, is out all the same", arguments: admins)
  func persistence(admin: String) async throws {
    let ledger = try await PostgresLedger(admin: admin)
    let source = ledger.source(connections: 100)
    let login = try UserPassword(await source.fetch(for: attempt()))
    let own = try UserPassword(Secret("\(login.user):chosen-by-the-job", version: "1"))
    #expect(try await ledger.psql(login, "ALTER ROLE \(login.user) PASSWORD 'chosen-by-the-job'").answer().status == 0)
    #expect(try await ledger.psql(own, "SELECT 1").answer() == (0, "1"))
    #expect(try await ledger.psql(own, "ALTER ROLE \(login.user) VALID UNTIL 'infinity'").answer().status == 1)
    let stop = Flag()
    let hammering = Task {
      var entries = 0
      while !stop.isSet { if try await ledger.psql(own, "SELECT 1").answer().status == 0 { entries += 1 } }
      return entries
    }
    try await wait(ledger, for: login.user, sessions: 1)
    try await source.end(attempt())
    let after = try await ledger.psql(own, "SELECT 1").answer()
    stop.set()
    #expect(try await hammering.value > 0 && after.status == 2)
    #expect(try await sessions(ledger, of: login.user) == 0)
    try await ledger.close()
  }

  @Test("what a job made in the database goes to its first group, not to the admin", arguments: admins)
  func belongings(admin: String) async throws {
    let ledger = try await PostgresLedger(admin: admin)
    let source = ledger.source(groups: ["ledger_read", "ledger_write"])
    let login = try UserPassword(await source.fetch(for: attempt()))
    #expect(try await ledger.psql(login, "CREATE TABLE report AS SELECT * FROM entry").answer().status == 0)
    try await source.end(attempt())
    #expect(
      try await ledger.ask("SELECT tableowner::text FROM pg_tables WHERE tablename = 'report'") == ["ledger_read"])
    #expect(try await roles(ledger).isEmpty)
    try await ledger.close()
  }

  @Test("a login that cannot be removed is barred, and one that may be in use is an error that names it")
  func leftOvers() async throws {
    let ledger = try await PostgresLedger(admin: "cordon_admin")
    // Something of its own in another database: nobody can drop the role from here.
    try await ledger.cluster.createDatabase("other")
    let source = ledger.source()
    let login = try UserPassword(await source.fetch(for: attempt()))
    try await ledger.execute("ALTER DATABASE other OWNER TO \(login.user)")
    #expect(
      try await ledger.psql(login, "CREATE SCHEMA mine CREATE TABLE t ()", database: "other").answer().status == 0)
    try await source.end(attempt())
    #expect(try await roles(ledger) == [login.user])
    #expect(try await ledger.psql(login, "SELECT 1").answer().status == 2)
    let reaped = try await source.reap { _ in false }
    #expect(reaped.map(\.role) == [login.user])
    if case .disabled(let why) = reaped.first?.outcome {
      #expect(why.contains("2BP01"))
    } else {
      Issue.record("\(reaped)")
    }

    // A prepared transaction holds its locks without a session.
    let second = try UserPassword(await ledger.source(groups: ["ledger_read", "ledger_write"]).fetch(for: attempt(8)))
    let prepare = "BEGIN; CREATE TABLE locked (); PREPARE TRANSACTION 'p'"
    #expect(try await ledger.psql(second, prepare).answer().status == 0)
    let held = try await ledger.source().reap { $0 != 8 }
    #expect(held.map(\.role) == [second.user])
    if case .failed(let why) = held.first?.outcome {
      #expect(why.contains("ROLLBACK PREPARED"))
    } else {
      Issue.record("\(held)")
    }
    try await ledger.execute("ROLLBACK PREPARED 'p'")
    #expect(try await ledger.source().reap { $0 != 8 } == [RoleEnding(role: second.user, outcome: .removed)])
    try await ledger.close()
  }

  @Test("CR-07: the logins of a worker that died are ended by the next one", arguments: admins)
  func reaping(admin: String) async throws {
    let ledger = try await PostgresLedger(admin: admin)
    // Two attempts of a worker of which nothing is left, one of a worker that lives, and roles that are nobody's attempt.
    let dead = [
      try UserPassword(await ledger.source().fetch(for: attempt(21))),
      try UserPassword(await ledger.source().fetch(for: attempt(22))),
    ]
    let alive = try UserPassword(await ledger.source().fetch(for: attempt(23)))
    try await ledger.execute("CREATE ROLE cordon_job_runner LOGIN; CREATE ROLE cordon_job_24_notahex1 LOGIN")
    let open = try ledger.psql(dead[0], "SELECT pg_sleep(600)")
    try await wait(ledger, for: dead[0].user, sessions: 1)
    let endings = try await ledger.source().reap { $0 == 23 }
    #expect(endings == dead.map { RoleEnding(role: $0.user, outcome: .removed) })
    #expect(try await open.answer().text.contains("terminating connection"))
    for login in dead { #expect(try await ledger.psql(login, "SELECT 1").answer().status == 2) }
    #expect(try await ledger.psql(alive, "SELECT 1").answer() == (0, "1"))
    #expect(try await roles(ledger) == [alive.user, "cordon_job_24_notahex1", "cordon_job_runner"].sorted())
    // Where it cannot be said who is alive, nobody is ended.
    let unsure = try await ledger.source().reap { _ in throw CancellationError() }
    if case .failed = unsure.first?.outcome {
      #expect(unsure.map(\.role) == [alive.user])
    } else {
      Issue.record("\(unsure)")
    }
    #expect(try await ledger.psql(alive, "SELECT 1").answer() == (0, "1"))
    try await ledger.close()
  }

  @Test("a group that is none, may log in or reaches beyond tables is refused, and no login is left behind")
  func groups() async throws {
    let ledger = try await PostgresLedger(admin: "postgres")
    try await ledger.execute(
      "CREATE ROLE somebody LOGIN; CREATE ROLE middle NOLOGIN; GRANT pg_read_server_files TO middle; GRANT ledger_read TO strong"
    )
    for (group, words) in [
      ("nobody", "there is no role nobody"), ("somebody", "may log in"), ("strong", "reach beyond tables"),
      ("middle", "pg_read_server_files"), ("postgres", "may log in"),
      ("odd'; DROP TABLE entry; --", "there is no role"),
    ] {
      let error = await #expect(throws: CredentialError.self) {
        try await ledger.source(groups: ["ledger_read", group]).fetch(for: attempt())
      }
      #expect(
        error?.kind == .refused && error?.reason.contains(words) == true, "\(group): \(String(describing: error))")
    }
    #expect(try await roles(ledger).isEmpty)
    #expect(try await ledger.ask("SELECT count(*)::text FROM entry") == ["2"])
    try await ledger.close()
  }

  @Test("a server that is away is said to be, and the next request tries again")
  func away() async throws {
    let ledger = try await PostgresLedger(admin: "postgres")
    let source = ledger.source()
    try await ledger.cluster.crash()
    let error = await #expect(throws: CredentialError.self) { try await source.fetch(for: attempt()) }
    #expect(error?.kind == .unavailable)
    // A login that may be there still is not taken for ended.
    await #expect(throws: CredentialError.self) { try await source.end(attempt()) }
    await #expect(throws: CredentialError.self) { try await source.reap { _ in false } }
    try await ledger.close()
  }
}
