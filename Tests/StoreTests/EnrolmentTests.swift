import FoundationEssentials
import Jobs
import Postgres
import PrivateCluster
import TestKit
import Testing

@testable import Store

/// A verifier of no password that anybody knows; each `salt` makes another.
private func verifier(_ salt: Character = "A") -> String {
  "SCRAM-SHA-256$4096:\(String(repeating: salt, count: 22))==$\(String(repeating: "B", count: 43))=:"
    + "\(String(repeating: "C", count: 43))="
}

/// Workers that come by a token. The test server lets everybody in who may log in, so what is seen here is what the database
/// refuses by itself; passwords are the journey's.
@Suite(.migrated) struct EnrolmentTests {
  private func invite(
    tenant: String? = nil, queues: [String]? = nil, expires: Double = 600, life: Double = 3_600
  ) async throws -> Member {
    let boss = try await Member.make("cordon_operator")
    let token = try await boss.store.createJoinToken(
      tenant: tenant, queues: queues, expires: expires, life: life, verifier: verifier())
    await boss.pool.close()
    return Member(role: token.role, pool: Database.current.pool(user: token.role, maximum: 2))
  }

  /// A worker that came by a token, registered, with a job that runs.
  private struct Scene {
    let boss: Member
    let producer: Member
    let member: Member
    let id: Int64
    let running: Claim
    let waiting: JobID

    var store: Store { member.store }
    var held: [(job: JobID, token: Int64)] { [(running.job, running.token)] }
  }

  private func scene(name: String = "rack-7") async throws -> Scene {
    let token = try await invite()
    let member = try await enrol(token, name: name)
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let id = try await register(member, name: name)
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    #expect(try await member.store.start(worker: id, plain([claim])) == [claim.job])
    let waiting = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    return Scene(
      boss: try await Member.make("cordon_operator"), producer: producer, member: member, id: id, running: claim,
      waiting: waiting)
  }

  private func enrol(_ token: Member, name: String = "rack-7") async throws -> Member {
    let identity = try await token.store.enrol(name: name, verifier: verifier("D"))
    return Member(role: identity.role, pool: Database.current.pool(user: identity.role, maximum: 2))
  }

  private func register(_ member: Member, name: String = "rack-7", queues: [String] = ["default"]) async throws -> Int64
  {
    try await member.store.registerWorker(
      name: name, host: "host.example", build: "b", queues: queues, slots: 4, leaseSeconds: 30)
  }

  /// Moves the end of an identity.
  private func expire(_ member: Member, seconds: Int) async throws {
    _ = try await admin(
      "update cordon.principal set expires_at = now() + make_interval(secs => $2::int) where role = $1 returning 1::text",
      [Parameter(member.role), Parameter(seconds)])
  }

  private func facts(_ member: Member) async throws -> String? {
    try await admin(
      """
      select concat_ws(' ', rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication,
        (select string_agg(g.rolname, ',') from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid))
      from pg_roles r where rolname = $1
      """, [Parameter(member.role)]
    ).first ?? nil
  }

  @Test("a token makes one worker, of its tenant and queues, and its own login is none any more")
  func once() async throws {
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addQueue(name: "night")
    let token = try await invite(tenant: "alpha", queues: ["night"])
    #expect(try await facts(token) == "t f f f f f cordon_joiner")
    let member = try await enrol(token)
    #expect(member.role == token.role.replacing("join", with: "worker"))
    #expect(try await facts(member) == "t f f f f f cordon_worker")
    #expect(try await facts(token) == "f f f f f f")
    #expect(
      try await admin("select rolpassword from pg_authid where rolname = $1", [Parameter(member.role)])
        == [verifier("D")])
    #expect(try await admin("select rolpassword from pg_authid where rolname = $1", [Parameter(token.role)]) == [nil])

    // QU-09: a queue or a tenant that the token does not name.
    let stranger = try await refusal { try await register(member) }
    #expect(stranger.sqlState == "42501", "\(stranger)")
    let id = try await register(member, queues: ["night"])
    let (own, other) = (try await Member.producer(), try await Member.producer(tenant: "beta"))
    _ = try await other.store.enqueue(queue: "night", specification: sleepJob)
    let job = try await own.store.enqueue(queue: "night", specification: sleepJob).job
    #expect(try await member.store.claim(worker: id, limit: 5).map(\.job) == [job])

    let shown = try json(try #require(try await boss.store.joinTokens().first))
    #expect(shown["state"] == .string("used") && shown["worker_state"] == .string("enrolled"))
    #expect(shown["worker"] == .string("rack-7") && shown["worker_role"] == .string(member.role))
    let worker = try json(try #require(try await boss.store.workers().first))
    #expect(worker["enrolled"] == .bool(true) && worker["identity_expires_at"]?.string != nil)
    #expect(
      try await admin("select what from cordon.audit where what ~ 'join|enrol' order by id")
        == ["join_token_made", "worker_enrolled"])
    #expect(
      try await admin("select added_by::text from cordon.principal where role = $1", [Parameter(member.role)])
        == [shown["made_by"]?.string])
  }

  @Test("a token that was used is refused, in a session that is still open and in a new one")
  func twice() async throws {
    let token = try await invite()
    let session = try await Session(token.role)
    _ = try await enrol(token)
    let error = try await refusal { try await session.run("select role::text from cordon.enrol('w', '\(verifier())')") }
    #expect(error.sqlState == "42501", "\(error)")
    let later = try await refusal { try await Session(token.role) }
    #expect(later.sqlState == "28000", "\(later)")
    await session.close()
    // Its own words, before it was barred.
    let other = try await invite()
    _ = try await admin(
      "update cordon.join_token set used_at = now() where role = $1 returning 1::text", [Parameter(other.role)])
    let used = try await refusal { try await enrol(other) }
    #expect(used.message.contains("was used at") && used.hint?.contains("cordon workers invite") == true, "\(used)")
  }

  @Test("of two that use a token at once, one enrols")
  func race() async throws {
    for _ in 0..<5 {
      let token = try await invite()
      let enrolled = await withTaskGroup(of: Bool.self) { group in
        for name in ["a", "b"] {
          group.addTask { (try? await token.store.enrol(name: name, verifier: verifier())) != nil }
        }
        return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
      }
      #expect(enrolled == 1)
      await token.pool.close()
    }
    #expect(try await admin("select count(*) from cordon.enrolment") == ["5"])
  }

  @Test("an expired token and a withdrawn one enrol nobody")
  func over() async throws {
    let late = try await invite()
    _ = try await admin("update cordon.join_token set expires_at = now() - interval '1 s' returning 1::text")
    let error = try await refusal { try await enrol(late) }
    #expect(error.sqlState == "42501" && error.message.contains("expired at"), "\(error)")

    let boss = try await Member.make("cordon_operator")
    let token = try await invite()
    let session = try await Session(token.role)
    try await boss.store.withdrawJoinToken(token.role)
    #expect(try await facts(token) == "f f f f f f")
    await #expect(throws: PostgresError.self) { try await session.run("select 1::text") }
    try await boss.store.withdrawJoinToken(token.role)
    #expect(try await refusal { try await boss.store.withdrawJoinToken("nobody") }.sqlState == "CD404")
    let used = try await invite()
    _ = try await enrol(used)
    let withdrawn = try await refusal { try await boss.store.withdrawJoinToken(used.role) }
    #expect(withdrawn.sqlState == "22023" && withdrawn.hint?.contains("cordon revoke principal") == true)
    #expect(
      try await admin("select what || ' ' || (detail ->> 'role') from cordon.audit where what = 'join_token_withdrawn'")
        == ["join_token_withdrawn \(token.role)"])
  }

  @Test(
    "what is no verifier to the letter makes no login, neither for a token nor for a worker",
    arguments: [
      "secret", "", verifier() + "\n", " " + verifier(), verifier().replacing("4096", with: "1024"),
      verifier().replacing("=:", with: ":"), verifier() + "', 'x", "md5" + String(repeating: "0", count: 32),
      verifier().replacing("SHA-256", with: "SHA-1"), verifier().replacing("B", with: "'"),
    ])
  func verifiers(_ text: String) async throws {
    let before = try await admin("select count(*) from pg_roles where rolname ~ '^cordon_(join|worker)_'")
    let boss = try await Member.make("cordon_operator")
    let error = try await refusal {
      try await boss.store.createJoinToken(tenant: nil, queues: nil, expires: 60, life: 60, verifier: text)
    }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("verifier: "), "\(error)")
    let token = try await invite()
    let second = try await refusal { try await token.store.enrol(name: "w", verifier: text) }
    #expect(second.sqlState == "22023", "\(second)")
    // And it may be used still.
    let member = try await enrol(token)
    let third = try await refusal { try await member.store.renew(verifier: text) }
    #expect(third.sqlState == "22023", "\(third)")
    #expect(
      try await admin(
        "select count(*) - $1::int from pg_roles where rolname ~ '^cordon_(join|worker)_'",
        [
          Parameter(before[0].flatMap { Int($0) })
        ]) == ["2"])
  }

  @Test("a name with quotes is a name", arguments: [#"o'brien"; drop role postgres; --"#, "%I %L $1 \\", "\u{202E}ä"])
  func names(_ name: String) async throws {
    let member = try await enrol(try await invite(), name: name)
    #expect(member.role.wholeMatch(of: /cordon_worker_[0-9a-f]{16}/) != nil)
    #expect(try await admin("select name from cordon.enrolment") == [name])
    let boss = try await Member.make("cordon_operator")
    #expect(try await boss.store.revoke(.worker, name, mode: .kill, reason: "r").isKnown)
    #expect(try await facts(member) == "f f f f f f")
  }

  @Test("what a token may not be is said before there is one")
  func bounds() async throws {
    let boss = try await Member.make("cordon_operator")
    for (tenant, queues, expires, life, what) in [
      ("a b", nil, 60.0, 60.0, "tenant"), (nil, [], 60, 60, "queues"), (nil, ["nowhere"], 60, 60, "queues"),
      (nil, nil, 0, 60, "expires"), (nil, nil, 8 * 86_400, 60, "expires"), (nil, nil, 60, 1, "life"),
      (nil, nil, 60, 8 * 86_400, "life"),
    ] as [(String?, [String]?, Double, Double, String)] {
      let error = try await refusal {
        try await boss.store.createJoinToken(
          tenant: tenant, queues: queues, expires: expires, life: life, verifier: verifier())
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix(what), "\(error)")
    }
    #expect(try await admin("select count(*) from cordon.join_token") == ["0"])
    let token = try await invite()
    #expect(try await refusal { try await enrol(token, name: "") }.sqlState == "22023")
  }

  @Test("a token's login may call nothing else, and reads nothing")
  func nothingElse() async throws {
    let token = try await invite()
    let callable = try await admin(
      """
      select p.proname from pg_proc p where pronamespace = 'cordon'::regnamespace
        and has_function_privilege($1, p.oid, 'execute') order by 1
      """, [Parameter(token.role)])
    #expect(callable == ["enrol", "installed_version"])
    for sql in [
      "select cordon.renew('\(verifier())')::text", "select cordon.claim(1, 1)::text",
      "select role::text from cordon.join_token",
      "select cordon.make_login('worker', null, '\(verifier())', now())::text", "create role mine",
      "create table mine (a int)",
      "set role cordon_worker", "set role cordon_enroller", "alter role \(token.role) valid until 'infinity'",
      "grant cordon_worker to \(token.role)",
    ] {
      let error = try await refusal { try await token.column(sql) }
      #expect(error.sqlState == "42501", "\(sql): \(error)")
    }
    // Nor is whoever is no token a token.
    let worker = try await Member.make("cordon_worker")
    #expect(try await refusal { try await worker.store.enrol(name: "w", verifier: verifier()) }.sqlState == "42501")
    #expect(try await refusal { try await worker.store.renew(verifier: verifier()) }.sqlState == "42501")
  }

  @Test("a renewal has another password and a later end, and no session is ended by it")
  func renewal() async throws {
    let scene = try await scene()
    try await expire(scene.member, seconds: 60)
    let session = try await Session(scene.member.role)
    #expect(try await scene.store.renew(verifier: verifier("E")) == 3_600)
    // Asked again, because its answer was lost, it does the same.
    #expect(try await scene.store.renew(verifier: verifier("E")) == 3_600)
    #expect(
      try await admin(
        """
        select a.rolpassword || ' ' || (a.rolvaliduntil = p.expires_at and p.expires_at > now() + interval '59 minutes')
          || ' ' || e.renewals
        from pg_authid a join cordon.principal p on p.role = a.rolname join cordon.enrolment e on e.role = a.rolname
        where a.rolname = $1
        """, [Parameter(scene.member.role)]) == ["\(verifier("E")) true 2"])
    #expect(try await session.run("select session_user::text") == [scene.member.role])
    #expect(try await scene.store.heartbeat(worker: scene.id, held: scene.held).isEmpty)
    await session.close()
  }

  /// CR-07, QU-07.
  @Test("an expired identity claims, starts, beats and renews no more; what it reports is late, and others run its job")
  func expired() async throws {
    let scene = try await scene()
    let claimed = try #require(try await scene.store.claim(worker: scene.id, limit: 1).first)
    try await expire(scene.member, seconds: -1)
    let (store, id) = (scene.store, scene.id)
    for call: @Sendable () async throws -> Void in [
      { _ = try await store.claim(worker: id, limit: 1) },
      { _ = try await store.claim(worker: id, limit: 1, beginning: StartAttribution()) },
      { _ = try await store.start(worker: id, plain([claimed])) },
      { [held = scene.held] in _ = try await store.heartbeat(worker: id, held: held) },
      { _ = try await store.release(worker: id, claims: [claimed], started: false, reason: "r") },
      { [running = scene.running] in
        _ = try await store.appendLog(worker: id, claim: running, stream: "stdout", sequence: 0, bytes: [1])
      },
      { _ = try await register(scene.member) },
      { _ = try await store.renew(verifier: verifier("E")) },
    ] {
      let error = try await refusal { try await call() }
      #expect(error.sqlState == "CD403" && error.message.contains("expired"), "\(error)")
    }
    for _ in 0..<2 {
      let late = try await store.complete(worker: id, finished: [(scene.running, .succeeded())])
      #expect(late[scene.running.job] == false)
    }
    #expect(try await admin("select job::text from cordon.audit where what = 'late'") == ["\(scene.running.job)"])
    #expect(try await admin("select count(*) from cordon.attempt") == ["0"])
    // Silent for a lease, it is gone as any other.
    _ = try await admin("update cordon.worker set seen_at = now() - interval '1 hour' returning 1::text")
    let next = try await Member.worker()
    #expect(try await next.member.store.rescue(limit: 10) == 2)
    let record = try json(try await scene.producer.store.record(scene.running.job))
    #expect(record["attempts"]?.array?.first?["reason"] == .string("worker gone"))
    #expect(try await next.member.store.claim(worker: next.id, limit: 5).contains { $0.job == scene.running.job })
    let later = try await store.complete(worker: id, finished: [(scene.running, .succeeded())])
    #expect(later[scene.running.job] == false)
    #expect(try await admin("select count(*) from cordon.audit where what = 'late'") == ["1"])
  }

  /// Its outputs are what the record names; a false here would have them withdrawn.
  @Test("what a worker recorded in time is recorded, also where it asks again after its end")
  func repeated() async throws {
    let scene = try await scene()
    func complete() async throws -> Bool? {
      try await scene.store.complete(worker: scene.id, finished: [(scene.running, .succeeded())])[scene.running.job]
    }
    #expect(try await complete() == true)
    try await expire(scene.member, seconds: -1)
    #expect(try await complete() == true)
    #expect(try await admin("select count(*) from cordon.audit where what = 'late'") == ["0"])
  }

  @Test("a member of a group without an end is judged by none")
  func noEnd() async throws {
    let worker = try await Member.worker()
    #expect(try await worker.member.store.heartbeat(worker: worker.id, held: []).isEmpty)
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 1).isEmpty)
  }

  /// QU-06, QU-07.
  @Test(
    "a worker that is killed has no login, no session and no lease, and what it reports is late",
    arguments: [
      Store.RevocationKind.worker, .principal,
    ])
  func revoked(_ kind: Store.RevocationKind) async throws {
    let scene = try await scene()
    let target = kind == .worker ? "rack-7" : scene.member.role
    let session = try await Session(scene.member.role)
    let effect = try await scene.boss.store.revoke(kind, target, mode: .kill, reason: "stolen")
    #expect(effect.killed == 1)
    #expect(try await facts(scene.member) == "f f f f f f")
    await #expect(throws: PostgresError.self) { try await session.run("select 1::text") }
    #expect(try await refusal { try await Session(scene.member.role) }.sqlState == "28000")
    #expect(try await admin("select count(*) from cordon.lease") == ["0"])
    let record = try json(try await scene.producer.store.record(scene.running.job))
    #expect(record["attempts"]?.array?.first?["outcome"] == .string("lost"))
    #expect(record["state"] == .string("queued"))

    // Lifted, it stays barred. And a session of it that there should not be any more can do nothing:
    #expect(try await scene.boss.store.liftRevocation(kind, target, reason: "found"))
    #expect(try await facts(scene.member) == "f f f f f f")
    try await Database.current.execute(
      "alter role \(scene.member.role) login; grant cordon_worker to \(scene.member.role)")
    let again = Member(role: scene.member.role, pool: Database.current.pool(user: scene.member.role, maximum: 1))
    let late = try await again.store.complete(worker: scene.id, finished: [(scene.running, .succeeded())])
    #expect(late[scene.running.job] == false)
    #expect(try await refusal { try await again.store.renew(verifier: verifier("E")) }.sqlState == "CD403")
    #expect(try await refusal { try await register(again) }.sqlState == "CD403")
    #expect(
      try await admin("select detail ->> 'reason' from cordon.audit where what = 'identity_barred'")
        == ["\(kind.rawValue) \(target) is revoked: stolen"])
    await again.pool.close()
  }

  @Test("a revoked name enrols nobody, and its token is good when it is lifted")
  func revokedName() async throws {
    let boss = try await Member.make("cordon_operator")
    _ = try await boss.store.revoke(.worker, "rack-7", mode: .drain, reason: "r")
    let token = try await invite()
    let error = try await refusal { try await enrol(token) }
    #expect(error.sqlState == "CD403" && error.message.contains("is revoked"), "\(error)")
    #expect(try await boss.store.liftRevocation(.worker, "rack-7", reason: ""))
    _ = try await enrol(token)
  }

  @Test("a worker that is drained keeps its login for what runs")
  func drained() async throws {
    let scene = try await scene()
    _ = try await scene.boss.store.revoke(.worker, "rack-7", mode: .drain, reason: "r")
    #expect(try await scene.store.renew(verifier: verifier("E")) == 3_600)
    #expect(
      try await scene.store.complete(worker: scene.id, finished: [(scene.running, .succeeded())])[scene.running.job]
        == true)
  }

  /// What a worker keeps locked is let go when its session is ended, and that is done first.
  @Test("a worker that renews in a transaction which it leaves open holds up no kill")
  func openTransaction() async throws {
    let scene = try await scene()
    let session = try await Session(scene.member.role)
    try await session.run("begin; select seconds::text from cordon.renew('\(verifier("E"))')")
    let began = ContinuousClock.now
    _ = try await scene.boss.store.revoke(.worker, "rack-7", mode: .kill, reason: "stolen")
    _ = try await scene.boss.store.enforceRevocations()
    #expect(ContinuousClock.now - began < .seconds(10).patiently)
    #expect(try await facts(scene.member) == "f f f f f f")
    await session.close()
  }

  @Test("a session that outlives its identity is ended, once there has been time for what it still had to say")
  func outlived() async throws {
    let member = try await enrol(try await invite())
    let session = try await Session(member.role)
    let boss = try await Member.make("cordon_operator")
    try await expire(member, seconds: -60)
    #expect(try await boss.store.reapLogins() == [])
    #expect(try await session.run("select 1::text") == ["1"])
    try await expire(member, seconds: -660)
    #expect(try await boss.store.reapLogins() == [])
    await #expect(throws: PostgresError.self) { try await session.run("select 1::text") }
  }

  @Test("of two databases on one server neither touches the other's logins")
  func twoDatabases() async throws {
    let cluster = Database.current.cluster
    let name = "\(Database.current.name)_second"
    try await cluster.createDatabase(name)
    let pool = Pool(ConnectionSettings(cluster.url(database: name, user: "postgres")), maximum: 1)
    let second = Store(pool: pool)
    _ = try await second.migrate()
    let member = try await enrol(try await invite())
    _ = try await pool.query(
      Statement(
        name: "mine",
        sql: "insert into cordon.enrolment (role, name, token, life) values ('postgres', 'x', 'y', '1 s') returning 1"))
    #expect(try await second.revoke(.worker, "rack-7", mode: .kill, reason: "r").killed == 0)
    #expect(try await second.revoke(.principal, member.role, mode: .kill, reason: "r").killed == 0)
    #expect(try await second.reapLogins() == [])
    #expect(try await facts(member) == "t f f f f f cordon_worker")
    // Nor a login that was not made for a worker, whatever a row says.
    let error = try await refusal { try await second.revoke(.worker, "x", mode: .kill, reason: "r") }
    #expect(error.sqlState == "42501" && error.message.contains("was not made for a worker"), "\(error)")
    await pool.close()
    try await cluster.dropDatabase(name)
  }

  @Test("a day after their end logins are removed, but for one whose worker holds a lease")
  func reaped() async throws {
    let scene = try await scene()
    let (unused, other) = (try await invite(), try await enrol(try await invite(), name: "other"))
    // Something of its own would keep a login from being removed.
    _ = try await other.column("select lo_create(0)::text")
    await other.pool.close()
    #expect(try await scene.boss.store.reapLogins() == [])
    _ = try await admin(
      "update cordon.join_token set used_at = used_at - interval '25 hours', expires_at = expires_at - interval '25 hours' returning 1::text"
    )
    for member in [scene.member, other] { try await expire(member, seconds: -90_000) }
    let tokens = [scene.member, other].map { $0.role.replacing("worker", with: "join") }
    #expect(Set(try await scene.boss.store.reapLogins()) == Set(tokens + [unused.role, other.role]))
    for role in tokens + [unused.role, other.role] {
      #expect(try await admin("select rolname from pg_roles where rolname = $1", [Parameter(role)]) == [])
    }
    #expect(try await facts(scene.member)?.hasSuffix("cordon_worker") == true)
    // Its worker is gone, and so is its lease.
    _ = try await admin("update cordon.worker set seen_at = now() - interval '1 hour' returning 1::text")
    let next = try await Member.worker()
    #expect(try await next.member.store.rescue(limit: 10) == 1)
    #expect(try await next.member.store.reapLogins() == [scene.member.role])
    #expect(try await admin("select count(*) from cordon.enrolment") == ["0"])
    #expect(
      try await admin(
        "select count(*) from cordon.principal where role in ($1, $2)",
        [Parameter(scene.member.role), Parameter(other.role)]) == ["0"])
    #expect(
      try await admin(
        "select what || ' ' || count(*) from cordon.audit where what ~ 'removed' group by what order by 1")
        == ["identity_removed 2", "join_token_removed 3"])
  }
}

/// Databases whose migrating login could not make the role that makes logins.
@Suite(.database) struct EnrolmentWithoutOwnerTests {
  @Test("no token is made, and whoever wanted one is told the fix; a superuser's migration is it")
  func refused() async throws {
    let superuser = Member.superuser
    _ = try await superuser.store.migrate(Array(Migration.carried.filter { $0.version < 50 })) { _ in }
    let owner = try await Member.make("cordon_owner")
    #expect(try await owner.store.migrate().to == Store.schemaVersion)
    let boss = try await Member.make("cordon_operator")
    func invite() async throws -> String {
      try await boss.store.createJoinToken(tenant: nil, queues: nil, expires: 60, life: 60, verifier: verifier()).role
    }
    let error = try await refusal { try await invite() }
    #expect(error.sqlState == "42501" && error.hint?.contains("cordon migrate") == true, "\(error)")
    #expect(try await admin("select count(*) from cordon.join_token") == ["0"])
    // Nothing else depends on it.
    #expect(try await boss.store.reapLogins() == [])
    let worker = try await Member.worker()
    #expect(try await boss.store.revoke(.worker, "w", mode: .kill, reason: "r").isKnown)
    #expect(
      try await refusal { try await worker.member.store.heartbeat(worker: worker.id, held: []) }.sqlState == "CD403")

    _ = try await superuser.store.migrate()
    let role = try await invite()
    #expect(try await admin("select rolcanlogin::text from pg_roles where rolname = $1", [Parameter(role)]) == ["true"])
  }

  @Test("a login with CREATEROLE that is no superuser prepares it, and is not left a member")
  func ordinary() async throws {
    let member = try await Member.make()
    try await Database.current.execute(
      "alter role \(member.role) createrole; grant create on database \(Database.current.name) to \(member.role)")
    _ = try await member.store.migrate()
    let boss = try await Member.make("cordon_operator")
    let token = try await boss.store.createJoinToken(
      tenant: nil, queues: nil, expires: 60, life: 60, verifier: verifier())
    let session = Member(role: token.role, pool: Database.current.pool(user: token.role, maximum: 1))
    #expect(try await session.store.enrol(name: "w", verifier: verifier()).seconds == 60)
    #expect(
      try await admin("select pg_has_role($1, 'cordon_enroller', 'member')::text", [Parameter(member.role)]) == [
        "false"
      ])
    await session.pool.close()
  }
}
