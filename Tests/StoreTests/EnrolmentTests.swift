import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What makes a worker of a token. The test server lets everybody in who may log in, so what is seen here is what the database refuses
/// by itself; passwords are the journey's.
@Suite(.migrated) struct EnrolmentTests {
  @Test("a token makes one worker, of its tenant and queues, and its own login is none any more")
  func once() async throws {
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addQueue(name: "night")
    let token = try await Member.invited(tenant: "alpha", queues: ["night"])
    #expect(try await token.loginFacts() == "t f f f f f cordon_joiner")
    let member = try await token.enrolled()
    #expect(member.role == token.role.replacing("join", with: "worker"))
    #expect(try await member.loginFacts() == "t f f f f f cordon_worker")
    #expect(try await token.loginFacts() == "f f f f f f")
    #expect(
      try await admin("select rolconnlimit::text from pg_roles where rolname = $1", [Parameter(member.role)]) == ["64"])
    #expect(
      try await admin("select rolpassword from pg_authid where rolname = $1", [Parameter(member.role)])
        == [verifier("D")])
    #expect(try await admin("select rolpassword from pg_authid where rolname = $1", [Parameter(token.role)]) == [nil])

    // QU-09: a queue or a tenant that the token does not name.
    let stranger = try await refusal { try await member.registered() }
    #expect(stranger.sqlState == "42501", "\(stranger)")
    let id = try await member.registered(queues: ["night"])
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
    let token = try await Member.invited()
    let session = try await Session(token.role)
    _ = try await token.enrolled()
    let error = try await refusal { try await session.run("select role::text from cordon.enrol('w', '\(verifier())')") }
    #expect(error.sqlState == "42501", "\(error)")
    let later = try await refusal { try await Session(token.role) }
    #expect(later.sqlState == "28000", "\(later)")
    await session.close()
    // Its own words, before it was barred.
    let other = try await Member.invited()
    _ = try await admin(
      "update cordon.join_token set used_at = now() where role = $1 returning 1::text", [Parameter(other.role)])
    let used = try await refusal { try await other.enrolled() }
    #expect(used.message.contains("was used at") && used.hint?.contains("cordon workers invite") == true, "\(used)")
  }

  @Test("of two that use a token at once, one enrols")
  func race() async throws {
    for _ in 0..<5 {
      let token = try await Member.invited()
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
    let late = try await Member.invited()
    _ = try await admin("update cordon.join_token set expires_at = now() - interval '1 s' returning 1::text")
    let error = try await refusal { try await late.enrolled() }
    #expect(error.sqlState == "42501" && error.message.contains("expired at"), "\(error)")

    let boss = try await Member.make("cordon_operator")
    let token = try await Member.invited()
    let session = try await Session(token.role)
    try await boss.store.withdrawJoinToken(token.role)
    #expect(try await token.loginFacts() == "f f f f f f")
    await #expect(throws: PostgresError.self) { try await session.run("select 1::text") }
    try await boss.store.withdrawJoinToken(token.role)
    #expect(try await refusal { try await boss.store.withdrawJoinToken("nobody") }.sqlState == "CD404")
    let used = try await Member.invited()
    _ = try await used.enrolled()
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
    let token = try await Member.invited()
    let second = try await refusal { try await token.store.enrol(name: "w", verifier: text) }
    #expect(second.sqlState == "22023", "\(second)")
    // And it may be used still.
    let member = try await token.enrolled()
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
    let member = try await Member.invited().enrolled(name: name)
    #expect(member.role.wholeMatch(of: /cordon_worker_[0-9a-f]{16}/) != nil)
    #expect(try await admin("select name from cordon.enrolment") == [name])
    let boss = try await Member.make("cordon_operator")
    #expect(try await boss.store.revoke(.worker, name, mode: .kill, reason: "r").isKnown)
    #expect(try await member.loginFacts() == "f f f f f f cordon_joiner")
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
    let token = try await Member.invited()
    #expect(try await refusal { try await token.enrolled(name: "") }.sqlState == "22023")
  }

  @Test("a token's login may call nothing else, and reads nothing")
  func nothingElse() async throws {
    let token = try await Member.invited()
    let callable = try await admin(
      """
      select p.proname from pg_proc p where pronamespace = 'cordon'::regnamespace
        and has_function_privilege($1, p.oid, 'execute') order by 1
      """, [Parameter(token.role)])
    #expect(callable == ["enrol", "installed_version"])
    for sql in [
      "select cordon.renew('\(verifier())')::text", "select cordon.claim(1, 1)::text",
      "select role::text from cordon.join_token",
      "select cordon_logins.make_login('worker', null, '\(verifier())', now())::text", "create role mine",
      "select lo_create(0)::text",
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

  @Test("what the schema's owner puts in the way is not called by what makes logins")
  func shadowed() async throws {
    try await Database.current.execute(
      """
      set role cordon_owner;
      create function cordon.format(text, name, text, timestamptz) returns text language sql as
        $$ select $q$do $x$ begin raise exception 'planted'; end $x$ $q$ $$;
      grant execute on function cordon.format(text, name, text, timestamptz) to public
      """)
    let member = try await Member.invited().enrolled()
    #expect(try await member.store.renew(verifier: verifier("E")) == 3_600)
    let owner = try await Member.make("cordon_owner")
    for sql in [
      "create function cordon_logins.format(text, name) returns text language sql as 'select null'",
      "drop function cordon_logins.drop_login(name)",
      "alter function cordon_logins.drop_login(name) owner to cordon_owner",
      "alter schema cordon_logins rename to mine",
    ] {
      #expect(
        try await refusal { try await owner.column(sql) }.sqlState == "42501", "\(sql)")
    }
  }

  @Test("a login is good until its identity's end, in whatever form the session writes times")
  func forms() async throws {
    let member = try await Member.invited().enrolled()
    let session = try await Session(member.role)
    // IST is India's, and is read as Israel's.
    try await session.run(
      "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'; select seconds::text from cordon.renew('\(verifier("E"))')"
    )
    await session.close()
    #expect(
      try await admin(
        "select (a.rolvaliduntil = p.expires_at)::text from pg_roles a join cordon.principal p on p.role = a.rolname where p.role = $1",
        [Parameter(member.role)]) == ["true"])
  }

  @Test("a worker registers under the name that it enrolled with, and no other")
  func otherName() async throws {
    let member = try await Member.invited().enrolled()
    let error = try await refusal { try await member.registered(name: "rack-8") }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("name: "), "\(error)")
    #expect(error.message.contains("rack-7") && error.hint?.contains("--name") == true, "\(error)")
    _ = try await member.registered()
  }

  @Test("a revoked name enrols nobody, and its token is good when it is lifted")
  func revokedName() async throws {
    let boss = try await Member.make("cordon_operator")
    _ = try await boss.store.revoke(.worker, "rack-7", mode: .drain, reason: "r")
    let token = try await Member.invited()
    let error = try await refusal { try await token.enrolled() }
    #expect(error.sqlState == "CD403" && error.message.contains("is revoked"), "\(error)")
    #expect(try await boss.store.liftRevocation(.worker, "rack-7", reason: ""))
    _ = try await token.enrolled()
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
