import FoundationEssentials
import Jobs
import Postgres
import PrivateCluster
import Schedules
import TestKit
import Testing

@testable import Store

/// How an enrolled worker's identity goes on, and how it ends: by its time, by a kill, and for good a day later.
@Suite(.migrated) struct IdentityEndTests {
  @Test("a renewal has another password and a later end, and no session is ended by it")
  func renewal() async throws {
    let scene = try await EnrolledScene()
    try await scene.member.expire(seconds: 60)
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
    let scene = try await EnrolledScene()
    let claimed = try #require(try await scene.store.claim(worker: scene.id, limit: 1).first)
    try await scene.member.expire(seconds: -1)
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
      { _ = try await scene.member.registered() },
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
    let scene = try await EnrolledScene()
    func complete() async throws -> Bool? {
      try await scene.store.complete(worker: scene.id, finished: [(scene.running, .succeeded())])[scene.running.job]
    }
    #expect(try await complete() == true)
    try await scene.member.expire(seconds: -1)
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
    let scene = try await EnrolledScene()
    let target = kind == .worker ? "rack-7" : scene.member.role
    let session = try await Session(scene.member.role)
    let effect = try await scene.boss.store.revoke(kind, target, mode: .kill, reason: "stolen")
    #expect(effect.killed == 1)
    #expect(try await scene.member.loginFacts() == "f f f f f f cordon_joiner")
    await #expect(throws: PostgresError.self) { try await session.run("select 1::text") }
    #expect(try await refusal { try await Session(scene.member.role) }.sqlState == "28000")
    #expect(try await admin("select count(*) from cordon.lease") == ["0"])
    let record = try json(try await scene.producer.store.record(scene.running.job))
    #expect(record["attempts"]?.array?.first?["outcome"] == .string("lost"))
    #expect(record["state"] == .string("queued"))

    // Lifted, it stays barred. And a session of it that there should not be any more can do nothing:
    #expect(try await scene.boss.store.liftRevocation(kind, target, reason: "found"))
    #expect(try await scene.member.loginFacts() == "f f f f f f cordon_joiner")
    try await Database.current.execute(
      "alter role \(scene.member.role) login; grant cordon_worker to \(scene.member.role)")
    let again = Member(role: scene.member.role, pool: Database.current.pool(user: scene.member.role, maximum: 1))
    let late = try await again.store.complete(worker: scene.id, finished: [(scene.running, .succeeded())])
    #expect(late[scene.running.job] == false)
    #expect(try await refusal { try await again.store.renew(verifier: verifier("E")) }.sqlState == "CD403")
    #expect(try await refusal { try await again.registered() }.sqlState == "CD403")
    #expect(
      try await admin("select detail ->> 'reason' from cordon.audit where what = 'identity_barred'")
        == ["\(kind.rawValue) \(target) is revoked: stolen"])
    await again.pool.close()
  }

  @Test("a worker that is drained keeps its login for what runs")
  func drained() async throws {
    let scene = try await EnrolledScene()
    _ = try await scene.boss.store.revoke(.worker, "rack-7", mode: .drain, reason: "r")
    #expect(try await scene.store.renew(verifier: verifier("E")) == 3_600)
    #expect(
      try await scene.store.complete(worker: scene.id, finished: [(scene.running, .succeeded())])[scene.running.job]
        == true)
  }

  /// What a worker keeps locked is let go when its session is ended, and that is done first.
  @Test("a worker that renews in a transaction which it leaves open holds up no kill")
  func openTransaction() async throws {
    let scene = try await EnrolledScene()
    let session = try await Session(scene.member.role)
    try await session.run("begin; select seconds::text from cordon.renew('\(verifier("E"))')")
    let began = ContinuousClock.now
    _ = try await scene.boss.store.revoke(.worker, "rack-7", mode: .kill, reason: "stolen")
    _ = try await scene.boss.store.enforceRevocations()
    #expect(ContinuousClock.now - began < .seconds(10).patiently)
    #expect(try await scene.member.loginFacts() == "f f f f f f cordon_joiner")
    await session.close()
  }

  @Test("a session that outlives its identity is ended, once there has been time for what it still had to say")
  func outlived() async throws {
    let member = try await Member.invited().enrolled()
    let session = try await Session(member.role)
    let boss = try await Member.make("cordon_operator")
    try await member.expire(seconds: -60)
    #expect(try await boss.store.reapLogins() == [])
    #expect(try await session.run("select 1::text") == ["1"])
    try await member.expire(seconds: -660)
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
    let member = try await Member.invited().enrolled()
    _ = try await pool.query(
      Statement(
        name: "mine",
        sql: "insert into cordon.enrolment (role, name, token, life) values ('postgres', 'x', 'y', '1 s') returning 1"))
    #expect(try await second.revoke(.worker, "rack-7", mode: .kill, reason: "r").killed == 0)
    #expect(try await second.revoke(.principal, member.role, mode: .kill, reason: "r").killed == 0)
    #expect(try await second.reapLogins() == [])
    #expect(try await member.loginFacts() == "t f f f f f cordon_worker")
    // Nor a login that was not made for a worker, whatever a row says.
    let error = try await refusal { try await second.revoke(.worker, "x", mode: .kill, reason: "r") }
    #expect(error.sqlState == "42501" && error.message.contains("was not made for a worker"), "\(error)")
    await pool.close()
    try await cluster.dropDatabase(name)
  }

  private func owning(_ count: Int, _ member: Member) async throws {
    try await Database.current.execute(
      """
      do $$ begin
        for i in 1..\(count) loop execute format('alter large object %s owner to \(member.role)', lo_create(0)); end loop;
      end $$
      """)
  }

  @Test("a login that owns very much stays, and keeps no other from being removed")
  func ownsMuch() async throws {
    let boss = try await Member.make("cordon_operator")
    let (greedy, other) = (try await Member.invited(), try await Member.invited())
    try await owning(501, greedy)
    _ = try await admin("update cordon.join_token set expires_at = now() - interval '25 hours' returning 1::text")
    #expect(try await boss.store.reapLogins() == [other.role])
    #expect(try await greedy.loginFacts() == "f f f f f f")
    #expect(try await admin("select role::text from cordon.join_token") == [greedy.role])
    try await Database.current.execute(
      "do $$ begin perform lo_unlink(oid) from pg_largeobject_metadata limit 400; end $$")
    #expect(try await boss.store.reapLogins() == [greedy.role])
  }

  @Test(
    "who has expired, or is killed, makes none of the calls that name no worker either; operators do",
    arguments: [true, false])
  func unnamed(expires: Bool) async throws {
    let boss = try await Member.make("cordon_operator")
    let worker = try await Member.worker()
    let store = worker.member.store
    let producer = try await Member.producer()
    try await producer.store.setSchedule(
      "nightly", document: #"{"cron": "0 * * * *", "zone": "UTC", "specification": \#(sleepJob)}"#)
    _ = try await admin("update cordon.schedule set next_at = now() - interval '1 second' returning name")
    let due = try #require(try await store.dueSchedules(limit: 1).first)
    let document = try ScheduleDocument(due.document)
    let firing = document.schedule.firing(handled: due.handledAt, now: due.now, missed: document.missed)
    let calls: [@Sendable (Store) async throws -> Void] = [
      { _ = try await $0.rescue(limit: 1) }, { _ = try await $0.applyRetention() }, { _ = try await $0.reapLogins() },
    ]
    for call in calls { try await call(store) }
    if expires {
      try await boss.store.addPrincipal(role: worker.member.role, tenant: nil)
      try await worker.member.expire(seconds: -1)
    } else {
      _ = try await boss.store.revoke(.principal, worker.member.role, mode: .kill, reason: "stolen")
    }
    let own: [@Sendable (Store) async throws -> Void] = [
      { _ = try await $0.dueSchedules(limit: 1) }, { _ = try await $0.fire(due, firing) },
      { _ = try await $0.breakSchedule(due, problem: "p") },
    ]
    for call in calls + own {
      let error = try await refusal { try await call(store) }
      #expect(error.sqlState == "CD403", "\(error)")
      #expect(error.message.contains(expires ? "has expired" : "stolen"), "\(error)")
    }
    for call in calls { try await call(boss.store) }
    #expect(try await Member.make("cordon_worker").store.dueSchedules(limit: 1).count == 1)
  }

  @Test("limits that name no end leave an enrolled identity its own, and give others none")
  func limits() async throws {
    let boss = try await Member.make("cordon_operator")
    let member = try await Member.invited().enrolled()
    let producer = try await Member.producer()
    try await producer.expire(seconds: 60)
    for role in [member.role, producer.role] {
      try await boss.store.limitPrincipal(
        role, kind: nil, expiresAt: nil, jobsPerHour: 5, cpuSecondsPerDay: nil, egressBytesPerDay: nil)
    }
    #expect(
      try await admin(
        "select role::text from cordon.principal where expires_at is not null and jobs_per_hour = 5") == [member.role])
    let id = try await member.registered()
    try await member.expire(seconds: -1)
    let error = try await refusal { try await member.store.claim(worker: id, limit: 1) }
    #expect(error.hint == "have it enrol anew: cordon workers invite", "\(error)")
  }

  @Test("a day after their end logins are removed, but for one whose worker holds a lease")
  func reaped() async throws {
    let scene = try await EnrolledScene()
    let (unused, other) = (try await Member.invited(), try await Member.invited().enrolled(name: "other"))
    // Something of its own would keep a login from being removed.
    try await owning(1, other)
    await other.pool.close()
    #expect(try await scene.boss.store.reapLogins() == [])
    _ = try await admin(
      "update cordon.join_token set used_at = used_at - interval '25 hours', expires_at = expires_at - interval '25 hours' returning 1::text"
    )
    for member in [scene.member, other] { try await member.expire(seconds: -90_000) }
    let tokens = [scene.member, other].map { $0.role.replacing("worker", with: "join") }
    #expect(Set(try await scene.boss.store.reapLogins()) == Set(tokens + [unused.role, other.role]))
    for role in tokens + [unused.role, other.role] {
      #expect(try await admin("select rolname from pg_roles where rolname = $1", [Parameter(role)]) == [])
    }
    #expect(try await scene.member.loginFacts()?.hasSuffix("cordon_worker") == true)
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
