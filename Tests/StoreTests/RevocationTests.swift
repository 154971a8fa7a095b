import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// The kill switch, as the database sees it.
@Suite(.migrated) struct RevocationTests {
  struct Scene {
    let boss: Member
    let producer: Member
    let worker: (member: Member, id: Int64)
    let running: Claim
    let waiting: JobID

    var role: String { producer.role }
  }

  /// A job that runs and one that waits, of one producer, and nothing else.
  private func scene(of kind: Store.RevocationKind = .job) async throws -> Scene {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    var sleepJob = sleepJob
    if kind == .credential {
      var policy = try #require(try json(try await boss.store.policyInForce().document).object)
      policy["grants"] = try json(
        #"{"index": {"host": "a.b", "port": 443, "mode": "http", "allow": [], "credential": "index-token"}}"#)
      _ = try await boss.store.setPolicy(
        String(decoding: try JSONEncoder().encode(JSONValue.object(policy)), as: UTF8.self))
      sleepJob = #"{"runtime": "bash", "code": "sleep 1", "grants": ["index"]}"#
    }
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(try await worker.member.store.start(worker: worker.id, plain([claim])) == [claim.job])
    let waiting = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    return Scene(boss: boss, producer: producer, worker: worker, running: claim, waiting: waiting)
  }

  private func target(_ kind: Store.RevocationKind, _ scene: Scene) -> String {
    switch kind {
    case .tenant: "alpha"
    case .principal: scene.role
    case .policy: scene.running.policy.description
    // Of "sleep 1".
    case .code: "\(sha256Text("sleep 1") ?? "")"
    case .credential: "index-token"
    case .worker: "w"
    case .job: scene.running.job.description
    }
  }

  private func record(_ id: JobID, _ scene: Scene) async throws -> JSONValue {
    try json(try await scene.producer.store.record(id))
  }

  @Test("a killed attempt is over in that commit, whatever is revoked", arguments: Store.RevocationKind.allCases)
  func kill(kind: Store.RevocationKind) async throws {
    let scene = try await scene(of: kind)
    let store = scene.worker.member.store
    let effect = try await scene.boss.store.revoke(
      kind, target(kind, scene), mode: .kill, reason: "an incident\nof sorts")
    #expect(effect == .init(recalled: 0, frozen: 0, killed: 1, isKnown: true))
    let running = try await record(scene.running.job, scene)
    if kind == .worker {
      // Not the job's fault: it is others' to run, as the next attempt.
      #expect(running["attempts"]?.array?.first?["outcome"] == .string("lost"))
      let heard = try await refusal { try await store.heartbeat(worker: scene.worker.id, held: []) }
      #expect(heard.sqlState == "CD403", "\(heard)")
      let claimed = try await refusal { try await store.claim(worker: scene.worker.id, limit: 1) }
      #expect(claimed.sqlState == "CD403")
      let late = try await store.complete(worker: scene.worker.id, finished: [(scene.running, .succeeded())])
      #expect(late[scene.running.job] == false)
      #expect(try await admin("select attempt::text from cordon.audit where what = 'late'") == ["1"])
      let again = try await refusal {
        try await store.registerWorker(
          name: "w", host: "h", build: "b", queues: ["default"], slots: 1, leaseSeconds: 30)
      }
      #expect(again.sqlState == "CD403")
      return
    }
    #expect(running["outcome"] == .string("cancelled") && running["state"] == .string("finished"))
    #expect(running["reason"]?.string?.hasSuffix("by \(scene.boss.role): an incident of sorts") == true)
    // The worker is told that it is lost, and what it says later is fenced.
    let verdicts = try await store.heartbeat(
      worker: scene.worker.id, held: [(scene.running.job, scene.running.token)])
    #expect(verdicts == [scene.running.token: .lost])
    let late = try await store.complete(worker: scene.worker.id, finished: [(scene.running, .succeeded())])
    #expect(late[scene.running.job] == false)
    // What waits is not claimed; but for a single job it is the other one's as well.
    #expect(
      try await store.claim(worker: scene.worker.id, limit: 5).map(\.job) == (kind == .job ? [scene.waiting] : []))
    guard kind != .job else { return }
    let held = try await record(scene.waiting, scene)
    #expect(held["state"] == .string("held") && held["reason"]?.string?.hasPrefix("revoked: \(kind.rawValue) ") == true)
    #expect(try await scene.boss.store.liftRevocation(kind, target(kind, scene), reason: "over"))
    #expect(try await store.claim(worker: scene.worker.id, limit: 5).map(\.job) == [scene.waiting])
    #expect(try await !scene.boss.store.liftRevocation(kind, target(kind, scene), reason: ""))
  }

  @Test("nothing more is accepted", arguments: [Store.RevocationKind.tenant, .principal, .policy])
  func refused(kind: Store.RevocationKind) async throws {
    let scene = try await scene()
    _ = try await scene.boss.store.revoke(kind, target(kind, scene), mode: .drain, reason: "an incident")
    let error = try await refusal { try await scene.producer.store.enqueue(queue: "default", specification: sleepJob) }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("\(kind.rawValue): "), "\(error)")
    // What runs goes on, and is recorded.
    let store = scene.worker.member.store
    #expect(
      try await store.heartbeat(worker: scene.worker.id, held: [(scene.running.job, scene.running.token)]).isEmpty)
    let recorded = try await store.complete(worker: scene.worker.id, finished: [(scene.running, .succeeded())])
    #expect(recorded[scene.running.job] == true)
    #expect(try await store.claim(worker: scene.worker.id, limit: 5).isEmpty)
    // Of another tenant and role nothing is taken.
    guard kind != .policy else { return }
    let other = try await Member.producer(tenant: "beta")
    let job = try await other.store.enqueue(queue: "default", specification: sleepJob).job
    #expect(try await store.claim(worker: scene.worker.id, limit: 5).map(\.job) == [job])
  }

  @Test func whatIsFrozenStandsStillUntilItIsLifted() async throws {
    let scene = try await scene()
    let store = scene.worker.member.store
    let held = [(job: scene.running.job, token: scene.running.token)]
    let effect = try await scene.boss.store.revoke(.tenant, "alpha", mode: .freeze, reason: "a look")
    #expect(effect.frozen == 1 && effect.killed == 0)
    #expect(try await store.heartbeat(worker: scene.worker.id, held: held) == [scene.running.token: .freeze])
    // Two hold it: one is lifted, the other one is not.
    _ = try await scene.boss.store.revoke(.job, scene.running.job.description, mode: .freeze, reason: "a look")
    #expect(try await scene.boss.store.liftRevocation(.tenant, "alpha", reason: ""))
    #expect(try await store.heartbeat(worker: scene.worker.id, held: held) == [scene.running.token: .freeze])
    #expect(try await scene.boss.store.liftRevocation(.job, scene.running.job.description, reason: ""))
    #expect(try await store.heartbeat(worker: scene.worker.id, held: held).isEmpty)
    #expect(try await scene.boss.store.revoke(.tenant, "alpha", mode: .kill, reason: "enough").killed == 1)
    #expect(try await scene.boss.store.revocations(everything: true).count == 5)
    let modes = try await scene.boss.store.revocations(everything: true).map { try json($0)["mode"]?.string }
    #expect(modes == ["kill", "lifted", "lifted", "freeze", "freeze"])
    #expect(try await scene.boss.store.revocations(everything: false).count == 1)
  }

  @Test func whatHasNotBegunIsTakenBack() async throws {
    let scene = try await scene()
    let store = scene.worker.member.store
    let claim = try #require(try await store.claim(worker: scene.worker.id, limit: 1).first)
    #expect(try await scene.boss.store.revoke(.principal, scene.role, mode: .drain, reason: "gone").recalled == 1)
    #expect(try await store.start(worker: scene.worker.id, plain([claim])).isEmpty)
    #expect(try await store.claim(worker: scene.worker.id, limit: 5).isEmpty)
  }

  /// A file's digest is known to the worker alone; the start that names it ends the attempt.
  @Test func aProgramThatIsKnownOnlyAtItsStart() async throws {
    let scene = try await scene()
    let store = scene.worker.member.store
    let digest = "sha256:" + String(repeating: "e", count: 64)
    _ = try await scene.boss.store.revoke(.code, digest, mode: .kill, reason: "malware")
    let claim = try #require(try await store.claim(worker: scene.worker.id, limit: 1).first)
    var attribution = StartAttribution()
    attribution.code = Digest(digest)
    #expect(try await store.start(worker: scene.worker.id, [(claim, attribution)]).isEmpty)
    let record = try await record(claim.job, scene)
    #expect(record["outcome"] == .string("cancelled") && record["reason"]?.string?.contains("malware") == true)
  }

  @Test func theDigestOfAProgramIsTheWorkers() async throws {
    let argv = Array("/usr/bin/true\0x\0".utf8)
    let of = try await admin(
      #"select cordon.code_digest('{"runtime": "exec", "argv": ["/usr/bin/true", "x"]}')"#)
    let expected = try await admin("select 'sha256:' || encode(sha256($1::bytea), 'hex')", [Parameter(argv)])
    #expect(of == expected)
  }

  @Test func whatIsMisspeltIsSaidToBeUnknown() async throws {
    let scene = try await scene()
    for (kind, target) in [
      (Store.RevocationKind.tenant, "alhpa"), (.principal, "nobody"), (.worker, "nobody"),
      (.policy, "sha256:" + String(repeating: "0", count: 64)), (.job, "00000000-0000-7000-8000-000000000000"),
    ] {
      let effect = try await scene.boss.store.revoke(kind, target, mode: .drain, reason: "r")
      #expect(effect == .init(recalled: 0, frozen: 0, killed: 0, isKnown: false), "\(kind)")
    }
    for (kind, target) in [
      (Store.RevocationKind.policy, "sha256:0"), (.code, "true"), (.job, "x"), (.tenant, "a b"), (.credential, "A b"),
    ] {
      let error = try await refusal { try await scene.boss.store.revoke(kind, target, mode: .kill, reason: "r") }
      #expect(error.sqlState == "22023", "\(kind) \(error)")
    }
    let silent = try await refusal { try await scene.boss.store.revoke(.tenant, "alpha", mode: .kill, reason: " ") }
    #expect(silent.sqlState == "22023")
    for member in [scene.producer, scene.worker.member] {
      let error = try await refusal { try await member.store.revoke(.tenant, "alpha", mode: .kill, reason: "r") }
      #expect(error.sqlState == "42501")
    }
  }

  /// Nobody can keep a revocation waiting: what is locked is ended when it is let go.
  @Test func anOpenTransactionHoldsNothingUp() async throws {
    let scene = try await scene()
    let waiting = try await Session(scene.producer.role)
    try await waiting.run("begin; select cordon.cancel('\(scene.running.job)')")
    let claiming = try await Session(scene.worker.member.role)
    let claimed = try await claiming.run("begin; select job::text from cordon.claim(\(scene.worker.id), 1)")
    #expect(claimed == ["\(scene.waiting)"])
    let begin = ContinuousClock.now
    let effect = try await scene.boss.store.revoke(.tenant, "alpha", mode: .kill, reason: "now")
    #expect(ContinuousClock.now - begin < .seconds(5).patiently && effect.killed == 0)
    // Of others nothing waits either.
    let other = try await Member.producer(tenant: "beta")
    let job = try await other.store.enqueue(queue: "default", specification: sleepJob).job
    let second = try await Member.worker()
    #expect(try await second.member.store.claim(worker: second.id, limit: 5).map(\.job) == [job])
    try await waiting.run("commit")
    try await claiming.run("commit")
    let late = try await scene.boss.store.enforceRevocations()
    #expect(late.killed == 1 && late.recalled == 1)
    #expect(try await record(scene.running.job, scene)["outcome"] == .string("cancelled"))
    await waiting.close()
    await claiming.close()
  }

  /// A start that was under way is no start that was taken back.
  @Test(arguments: Store.RevocationMode.allCases) func aStartUnderWay(mode: Store.RevocationMode) async throws {
    let scene = try await scene()
    let store = scene.worker.member.store
    let claim = try #require(try await store.claim(worker: scene.worker.id, limit: 1).first)
    let starting = try await Session(scene.worker.member.role)
    try await starting.run(
      """
      begin; select cordon.start(\(scene.worker.id), array['\(claim.job)']::uuid[], array[\(claim.token)]::bigint[], \
      array['{}'])
      """)
    _ = try await scene.boss.store.revoke(.job, claim.job.description, mode: mode, reason: "now")
    try await starting.run("commit")
    let late = try await scene.boss.store.enforceRevocations()
    #expect(late.recalled == 0 && late.killed == (mode == .kill ? 1 : 0) && late.frozen == (mode == .freeze ? 1 : 0))
    let verdict: HeartbeatVerdict? = mode == .kill ? .lost : mode == .freeze ? .freeze : nil
    #expect(
      try await store.heartbeat(worker: scene.worker.id, held: [(claim.job, claim.token)])[claim.token] == verdict)
    await starting.close()
  }

  /// A claim that saw nothing revoked yet is judged once more when it starts.
  @Test func aClaimUnderWay() async throws {
    let scene = try await scene()
    let claiming = try await Session(scene.worker.member.role)
    let row = try await claiming.run(
      "begin; select job || ' ' || token from cordon.claim(\(scene.worker.id), 1)")
    _ = try await scene.boss.store.revoke(.tenant, "alpha", mode: .drain, reason: "now")
    try await claiming.run("commit")
    let parts = try #require(row.first).split(separator: " ")
    let started = try await scene.worker.member.column(
      "select cordon.start(\(scene.worker.id), array['\(parts[0])']::uuid[], array[\(parts[1])]::bigint[], array['{}'])::text"
    )
    #expect(started == [])
    #expect(try await scene.worker.member.store.claim(worker: scene.worker.id, limit: 5).isEmpty)
    #expect(try await record(scene.waiting, scene)["state"] == .string("held"))
    await claiming.close()
  }

  /// A start that waited for somebody's row looks again at what came meanwhile.
  @Test func aStartThatWaited() async throws {
    let scene = try await scene()
    let store = scene.worker.member.store
    let claim = try #require(try await store.claim(worker: scene.worker.id, limit: 1).first)
    let cancelling = try await Session(scene.producer.role)
    try await cancelling.run("begin; select cordon.cancel('\(claim.job)')")
    let starting = Task {
      do { return try await store.start(worker: scene.worker.id, plain([claim])) } catch let error as PostgresError {
        // What a worker asks again.
        guard error.sqlState == "40001" else { throw error }
        return try await store.start(worker: scene.worker.id, plain([claim]))
      }
    }
    try await Task.sleep(for: .milliseconds(300))
    _ = try await scene.boss.store.revoke(.job, claim.job.description, mode: .drain, reason: "now")
    try await cancelling.run("rollback")
    #expect(try await starting.value.isEmpty)
    #expect(try await admin("select count(*) from cordon.lease where started_at is not null") == ["1"])
    #expect(try await store.claim(worker: scene.worker.id, limit: 5).isEmpty)
    #expect(try await record(claim.job, scene)["state"] == .string("held"))
    await cancelling.close()
  }

  /// A frozen job whose row a producer keeps locked, and one whose child it keeps locked, hold up no kill.
  @Test func nobodyHoldsUpAKill() async throws {
    let scene = try await scene()
    _ = try await scene.boss.store.revoke(.job, scene.running.job.description, mode: .freeze, reason: "a look")
    let session = try await Session(scene.producer.role)
    try await session.run("begin; select cordon.cancel('\(scene.running.job)')")
    let begin = ContinuousClock.now
    _ = try await scene.boss.store.revoke(.job, scene.running.job.description, mode: .kill, reason: "enough")
    try await session.run("rollback")
    let child = try await scene.producer.column(
      "select cordon.enqueue('default', '\(sleepJob)', after => array['\(scene.running.job)']::uuid[])::text")
    try await session.run("begin; select cordon.cancel('\(child[0] ?? "")')")
    let blocked = try await scene.boss.store.enforceRevocations()
    #expect(blocked.killed == 0 && ContinuousClock.now - begin < .seconds(5).patiently)
    try await session.run("rollback")
    #expect(try await scene.boss.store.enforceRevocations().killed == 1)
    await session.close()
  }

  /// A snapshot from before a revocation is none to work by.
  @Test func oldSnapshotsAreRefused() async throws {
    let scene = try await scene()
    let session = try await Session(scene.worker.member.role)
    let error = try await refusal {
      try await session.run("begin isolation level repeatable read; select cordon.claim(\(scene.worker.id), 1)")
    }
    #expect(error.sqlState == "25001", "\(error)")
    await session.close()
  }

  @Test func aWorkerThatIsDrainedIsGivenNothingUntilItIsLifted() async throws {
    let scene = try await scene()
    let store = scene.worker.member.store
    for mode in [Store.RevocationMode.drain, .freeze] {
      for (kind, target) in [(Store.RevocationKind.worker, "w"), (.principal, scene.worker.member.role)] {
        _ = try await scene.boss.store.revoke(kind, target, mode: mode, reason: "r")
        #expect(try await store.claim(worker: scene.worker.id, limit: 5).isEmpty, "\(kind) \(mode)")
        let verdicts = try await store.heartbeat(
          worker: scene.worker.id, held: [(scene.running.job, scene.running.token)])
        #expect(verdicts == (mode == .freeze ? [scene.running.token: .freeze] : [:]), "\(kind) \(mode)")
        #expect(try await scene.boss.store.liftRevocation(kind, target, reason: ""))
      }
    }
    #expect(try await store.claim(worker: scene.worker.id, limit: 5).map(\.job) == [scene.waiting])
  }

  @Test func aFrozenAttemptOutlastsItsDeadline() async throws {
    let scene = try await scene()
    _ = try await scene.boss.store.revoke(.job, scene.running.job.description, mode: .freeze, reason: "a look")
    _ = try await admin("update cordon.lease set deadline_at = now() - interval '1 minute' returning 1::text")
    #expect(try await scene.worker.member.store.rescue(limit: 10) == 0)
    #expect(
      try await scene.boss.store.revoke(.job, scene.running.job.description, mode: .drain, reason: "r").frozen == 0)
    #expect(try await admin("select frozen::text from cordon.lease") == ["false"])
    #expect(try await scene.worker.member.store.rescue(limit: 10) == 1)
  }
}
