import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// For whom an agent's jobs are, and that nothing which an agent says of that is believed by itself.
@Suite("Delegations", .migrated) struct DelegationTests {
  private struct Scene {
    let person: Member
    let agent: Member
    let boss: Member
    let worker: (member: Member, id: Int64)

    init() async throws {
      person = try await Member.producer()
      agent = try await Member.producer()
      boss = try await Member.make("cordon_operator")
      worker = try await Member.worker()
      try await kind(person, .person)
      try await kind(agent, .agent)
    }

    func kind(_ member: Member, _ kind: Store.PrincipalKind, expires: Date? = nil) async throws {
      try await boss.store.limitPrincipal(
        member.role, kind: kind, expiresAt: expires, jobsPerHour: nil, cpuSecondsPerDay: nil)
    }

    func delegate(_ scopes: String..., for seconds: Double = 3_600) async throws {
      try await person.store.delegate(to: agent.role, scopes: scopes, expiresAt: .now + seconds)
    }

    func specification(_ scopes: String..., person: String? = nil) -> String {
      let words = scopes.map { "\"\($0)\"" }.joined(separator: ",")
      return
        #"{"runtime": "bash", "code": "true", "on_behalf_of": {"person": "\#(person ?? self.person.role)", "scopes": [\#(words)]}}"#
    }

    @discardableResult
    func enqueue(_ specification: String? = nil, by member: Member? = nil) async throws -> JobID {
      try await (member ?? agent).store.enqueue(
        queue: "default", specification: specification ?? self.specification("ledger.read")
      ).job
    }

    func claim() async throws -> Claim? { try await worker.member.store.claim(worker: worker.id, limit: 1).first }

    func running() async throws -> Claim {
      try await enqueue()
      let claim = try #require(try await claim())
      #expect(try await start(claim))
      return claim
    }

    func start(_ claim: Claim) async throws -> Bool {
      try await worker.member.store.start(worker: worker.id, plain([claim])) == [claim.job]
    }

    func identity(_ claim: Claim) async throws -> Store.HeldAttempt? {
      try await worker.member.store.attemptIdentity(
        worker: worker.id, job: claim.job, token: claim.token, audience: "https://a")
    }

    /// Whether a token of the attempt's, of these scopes, is active.
    func isLive(_ claim: Claim, _ scopes: Set<String> = []) async throws -> Bool {
      let introspector = try await Member.make("cordon_introspector")
      defer { Task { await introspector.pool.close() } }
      return try await introspector.store.attemptIsLive(
        job: claim.job, attempt: claim.attempt, token: claim.token, scopes: scopes
      )
      .isLive
    }

    /// What the worker is told of its attempt.
    func heartbeat(_ claim: Claim) async throws -> HeartbeatVerdict? {
      try await worker.member.store.heartbeat(worker: worker.id, held: [(claim.job, claim.token)])[claim.token]
    }

    func held() async throws -> [String?] { try await admin("select reason from cordon.held order by job") }
    func change(_ what: String) async throws {
      _ = try await admin("update cordon.delegation set \(what) returning 1::text")
    }
  }

  @Test("CR-09, QU-02: an agent acts for the person that lets it, for what it lets it, and for nobody else")
  func believed() async throws {
    let scene = try await Scene()
    let none = try await refusal { try await scene.enqueue() }
    #expect(none.sqlState == "42501" && none.message.hasPrefix("on_behalf_of: "), "\(none)")
    try await scene.delegate("ledger.read", "ledger.write")
    try await scene.enqueue()
    try await scene.enqueue(scene.specification("ledger.write", "ledger.read"))
    let wider = try await refusal { try await scene.enqueue(scene.specification("ledger.read", "admin")) }
    #expect(
      wider.sqlState == "42501"
        && wider.message == #"on_behalf_of.scopes: "admin" is not delegated to "\#(scene.agent.role)""#)
    let other = try await Member.producer()
    try await scene.kind(other, .person)
    for somebody in ["postgres", scene.boss.role, other.role, scene.agent.role] {
      let error = try await refusal {
        try await scene.enqueue(scene.specification("ledger.read", person: somebody))
      }
      #expect(error.sqlState == "42501" && error.message.hasPrefix("on_behalf_of: "), "\(somebody): \(error)")
    }
    // What one agent may, another may not, and the person itself acts for itself.
    let second = try await Member.producer()
    try await scene.kind(second, .agent)
    for member in [second, other, scene.person] {
      let error = try await refusal { try await scene.enqueue(by: member) }
      #expect(error.sqlState == "42501", "\(member.role): \(error)")
    }
    let many = try await refusal {
      try await scene.agent.store.enqueueMany(
        queue: "default", specifications: [sleepJob, scene.specification("admin")])
    }
    #expect(many.message.hasPrefix("specifications[1].on_behalf_of.scopes: "), "\(many)")
  }

  @Test func whatIsNoDelegationIsRefusedWithItsPlace() async throws {
    let scene = try await Scene()
    try await scene.delegate("a")
    let long = String(repeating: "a", count: 64)
    for (value, path) in [
      (#""ada""#, "on_behalf_of"), (#"{"person": "ada"}"#, "on_behalf_of.scopes"),
      (#"{"person": "ada", "scopes": []}"#, "on_behalf_of.scopes"),
      (#"{"person": "ada", "scopes": ["a b"]}"#, "on_behalf_of.scopes"),
      (#"{"person": "ada", "scopes": ["a", "a"]}"#, "on_behalf_of.scopes"),
      (#"{"person": "ada", "scopes": ["\#(long)a"]}"#, "on_behalf_of.scopes"),
      (#"{"person": "ada", "scopes": [1]}"#, "on_behalf_of.scopes"),
      (#"{"person": 1, "scopes": ["a"]}"#, "on_behalf_of.person"),
      (#"{"person": "\#(long)", "scopes": ["a"]}"#, "on_behalf_of.person"),
      (#"{"person": "ada", "scopes": ["a"], "actors": ["x"]}"#, "on_behalf_of.actors"),
    ] {
      let error = try await refusal {
        try await scene.enqueue(#"{"runtime": "bash", "code": "true", "on_behalf_of": \#(value)}"#)
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("\(path): "), "\(value): \(error)")
    }
    try await scene.enqueue(#"{"runtime": "bash", "code": "true", "on_behalf_of": null}"#)
  }

  @Test("a person delegates for itself, an operator for a person; to an agent of its tenant, for a while")
  func whoDelegates() async throws {
    let scene = try await Scene()
    let soon = Date.now + 60
    let other = try await Member.producer()
    let foreign = try await Member.producer(tenant: "beta")
    try await scene.kind(foreign, .agent)
    func refused(
      _ by: Member, to agent: Member, scopes: [String] = ["a"], until: Date = soon, for person: Member? = nil
    ) async throws -> String? {
      try await refusal {
        try await by.store.delegate(to: agent.role, scopes: scopes, expiresAt: until, person: person?.role)
      }.sqlState
    }
    #expect(try await refused(scene.agent, to: scene.agent, for: scene.person) == "42501", "the agent, of itself")
    #expect(try await refused(other, to: scene.agent, for: scene.person) == "42501", "somebody else")
    #expect(try await refused(other, to: scene.agent) == "42501", "who is no person")
    #expect(try await refused(scene.boss, to: scene.agent) == "42501", "an operator, who is none either")
    #expect(try await refused(scene.person, to: other) == "42501", "to who is no agent")
    #expect(try await refused(scene.person, to: foreign) == "42501", "to another tenant's")
    #expect(try await refused(scene.person, to: scene.agent, scopes: []) == "22023")
    #expect(try await refused(scene.person, to: scene.agent, scopes: ["a b"]) == "22023")
    #expect(try await refused(scene.person, to: scene.agent, until: .now - 1) == "22023")
    #expect(try await refused(scene.person, to: scene.agent, until: .now + 400 * 86_400) == "22023")
    #expect(try await admin("select count(*) from cordon.delegation") == ["0"])
    try await scene.boss.store.delegate(to: scene.agent.role, scopes: ["a"], expiresAt: soon, person: scene.person.role)
    try await scene.enqueue(scene.specification("a"))
    let shown = try await scene.person.store.delegations().map(json)
    #expect(shown.count == 1 && shown[0]["made_by"]?.string == scene.boss.role && shown[0]["state"]?.string == "active")
    #expect(try await scene.agent.store.delegations().count == 1)
    #expect(try await other.store.delegations().isEmpty, "others see none")
    #expect(
      try await refusal { try await other.store.undelegate(scene.agent.role, person: scene.person.role) }.sqlState
        == "42501")
    #expect(try await !other.store.undelegate(scene.agent.role))
    #expect(try await scene.person.store.undelegate(scene.agent.role))
    #expect(try await !scene.person.store.undelegate(scene.agent.role))
    let trail = try await admin(
      "select what || ' ' || (detail ->> 'person') from cordon.audit where what in ('delegated', 'undelegated') order by at"
    )
    #expect(trail == ["delegated \(scene.person.role)", "undelegated \(scene.person.role)"])
  }

  @Test("the record says for whom, and through whom; of a job for nobody else it says null")
  func record() async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read", "ledger.write")
    let job = try await scene.enqueue()
    let attribution = try json(try await scene.person.store.record(job))["attribution"]
    #expect(attribution?["enqueued_by"]?.string == scene.agent.role)
    #expect(
      attribution?["on_behalf_of"]
        == .object([
          "person": .string(scene.person.role), "scopes": .array([.string("ledger.read")]),
          "actors": .array([.string(scene.agent.role)]),
        ]))
    let own = try await scene.enqueue(sleepJob)
    #expect(try json(try await scene.agent.store.record(own))["attribution"]?["on_behalf_of"] == .null)
    #expect(try await scene.claim()?.specification?.onBehalfOf?.person == scene.person.role)
  }

  @Test("a token may say what is delegated by now of what the job asked for, until the delegation's end")
  func narrowed() async throws {
    let scene = try await Scene()
    try await scene.delegate("a", "b", "c")
    try await scene.enqueue(scene.specification("c", "b"))
    let claim = try #require(try await scene.claim())
    #expect(try await scene.identity(claim) == nil, "it has not begun")
    #expect(try await scene.start(claim))
    let whole = try #require(try await scene.identity(claim))
    #expect(whole.submitter == scene.agent.role && whole.delegated?.person == scene.person.role)
    #expect(whole.delegated?.scopes == ["b", "c"])
    #expect(try await scene.isLive(claim, ["b", "c"]))
    try await scene.delegate("a", "b", for: 100)
    #expect(try await !scene.isLive(claim, ["b", "c"]), "a token that says more than is delegated by now")
    #expect(try await scene.isLive(claim, ["b"]))
    #expect(try await !scene.isLive(claim, ["a"]), "what the job has not asked for")
    let part = try #require(try await scene.identity(claim)?.delegated)
    #expect(part.scopes == ["b"] && abs(part.until.timeIntervalSinceNow - 100) < 60)
    // The person's own end is nearer.
    try await scene.kind(scene.person, .person, expires: .now + 10)
    #expect(try #require(try await scene.identity(claim)?.delegated).until.timeIntervalSinceNow < 11)
    #expect(try await scene.heartbeat(claim) == nil)
    // Nothing of what it asked for is left.
    try await scene.kind(scene.person, .person)
    try await scene.delegate("a")
    #expect(try await scene.identity(claim) == nil)
    #expect(try await !scene.isLive(claim))
    #expect(try await scene.heartbeat(claim) == .lost)
    try await scene.enqueue(sleepJob)
    let own = try #require(try await scene.claim())
    #expect(try await scene.start(own))
    #expect(try await scene.identity(own)?.submitter == scene.agent.role)
    #expect(try await scene.identity(own)?.delegated == nil)
  }

  @Test(
    "when it is over, by whatever it is, tokens are inactive at once, what runs is ended, what was claimed goes back, and what waits is held",
    arguments: ["ended", "expired", "person expired", "no person", "no agent"])
  func over(how: String) async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    let claim = try await scene.running()
    try await scene.enqueue()
    let claimed = try #require(try await scene.claim())
    try await scene.enqueue()
    #expect(try await scene.isLive(claim))
    #expect(try await scene.heartbeat(claim) == nil)
    switch how {
    case "ended": #expect(try await scene.person.store.undelegate(scene.agent.role))
    case "expired": try await scene.change("expires_at = now() - interval '1 second'")
    case "person expired":
      try await scene.kind(scene.person, .person, expires: .now - 1)
    case "no person": try await scene.kind(scene.person, .service)
    default: try await scene.kind(scene.agent, .service)
    }
    #expect(try await !scene.isLive(claim), "before any worker has asked")
    #expect(try await scene.identity(claim) == nil)
    #expect(try await !scene.start(claimed))
    #expect(try await scene.heartbeat(claim) == .lost)
    let record = try json(try await scene.boss.store.record(claim.job))
    #expect(record["state"]?.string == "finished", "\(record)")
    #expect(
      record["reason"]?.string?.hasPrefix(how == "person expired" ? "principal: " : "delegation: ") == true, "\(record)"
    )
    #expect(try await scene.worker.member.store.claim(worker: scene.worker.id, limit: 10).isEmpty)
    #expect(try await scene.held().count == 2, "the one that was claimed, and the one that waited")
    #expect(try await refusal { try await scene.enqueue() }.sqlState == "42501")
    // A job of the agent's own is none of this.
    try await scene.enqueue(sleepJob)
    let own = try #require(try await scene.claim())
    #expect(try await scene.start(own))
    #expect(try await scene.heartbeat(own) == nil)
    try await scene.kind(scene.person, .person)
    try await scene.kind(scene.agent, .agent)
    try await scene.delegate("ledger.read")
    #expect(try await scene.held().isEmpty)
    let again = try #require(try await scene.claim())
    #expect(try await scene.start(again))
    #expect(try await scene.isLive(again))
  }

  @Test("a delegation of a role, or to one, that is not there any more is over", arguments: [true, false])
  func roleGone(ofPerson: Bool) async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    let claim = try await scene.running()
    #expect(try await scene.isLive(claim))
    try await Database.current.execute("drop role \((ofPerson ? scene.person : scene.agent).role)")
    #expect(try await !scene.isLive(claim))
    #expect(try await scene.identity(claim) == nil)
    #expect(try await scene.heartbeat(claim) == .lost)
    let shown = try json(try #require(try await scene.boss.store.delegations().first))
    #expect(shown["state"]?.string == "over" && shown["reason"]?.string?.contains("roles any more") == true, "\(shown)")
  }

  @Test("what an operator ended is not the person's to bring back; what it ended itself is")
  func endedByOperator() async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    #expect(try await scene.person.store.undelegate(scene.agent.role))
    try await scene.delegate("ledger.read")
    #expect(try await scene.boss.store.undelegate(scene.agent.role, person: scene.person.role))
    let error = try await refusal { try await scene.delegate("ledger.read") }
    #expect(error.sqlState == "42501" && error.message.contains("was ended by \"\(scene.boss.role)\""), "\(error)")
    #expect(try await refusal { try await scene.enqueue() }.sqlState == "42501")
    #expect(try await admin("select count(*) from cordon.audit where what = 'delegated'") == ["2"])
    try await scene.boss.store.delegate(
      to: scene.agent.role, scopes: ["ledger.read"], expiresAt: .now + 60, person: scene.person.role)
    try await scene.enqueue()
    try await scene.delegate("ledger.read")
  }

  @Test("who ends a delegation that somebody has locked is told so, and does not wait for ever")
  func lockedRow() async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    let keeper = try await Database.current.connect()
    try await keeper.execute(script: "begin; select 1 from cordon.delegation for update")
    let ending = try await Database.current.connect(user: scene.person.role)
    try await ending.execute(script: "set statement_timeout = '60s'")
    let error = try await refusal {
      try await ending.execute(script: "select cordon.undelegate('\(scene.agent.role)')")
    }
    #expect(error.sqlState == "55P03", "\(error)")
    for connection in [keeper, ending] { await connection.close() }
  }

  @Test("a person that is revoked is treated as the role that put the job in", arguments: ["kill", "freeze", "drain"])
  func revoked(mode: String) async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    let claim = try await scene.running()
    try await scene.enqueue()
    _ = try await scene.boss.store.revoke(
      .principal, scene.person.role, mode: try #require(Store.RevocationMode(rawValue: mode)), reason: "it left")
    #expect(try await scene.isLive(claim) == (mode == "drain"))
    let verdict = try await scene.heartbeat(claim)
    #expect(verdict == (mode == "kill" ? .lost : mode == "freeze" ? .freeze : nil))
    #expect(try await scene.claim() == nil)
    #expect(try await scene.held().first??.hasPrefix("revoked: principal \(scene.person.role)") == true)
    #expect(try await refusal { try await scene.enqueue() }.sqlState == "42501")
    #expect(try await refusal { try await scene.delegate("ledger.read") }.sqlState == "42501")
    #expect(try await scene.boss.store.liftRevocation(.principal, scene.person.role, reason: "it is back"))
    #expect(try await scene.claim() != nil)
  }

  @Test("who ends a delegation waits for no session, and keeps no operator waiting")
  func nobodyWaits() async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    let claim = try await scene.running()
    let keeper = try await Database.current.connect()
    try await keeper.execute(
      script: "begin; select 1 from cordon.lease for update; select 1 from cordon.policy_epoch for update")
    let ending = try await Database.current.connect(user: scene.person.role)
    try await ending.execute(
      script: "set lock_timeout = '10s'; begin; select cordon.undelegate('\(scene.agent.role)')")
    try await keeper.execute(script: "rollback")
    // The person's transaction is open still.
    let other = try await Database.current.connect(user: scene.boss.role)
    try await other.execute(
      script: "set lock_timeout = '10s'; select cordon.revoke('job', '\(claim.job)', 'kill', 'now')")
    #expect(try await !scene.isLive(claim))
    try await ending.execute(script: "commit")
    for connection in [keeper, ending, other] { await connection.close() }
  }

  @Test("a job that is tried again by somebody else is not for the person any more")
  func retried() async throws {
    let scene = try await Scene()
    try await scene.delegate("ledger.read")
    let claim = try await scene.running()
    var report = AttemptReport.succeeded()
    report.outcome = "failed"
    report.exitCode = 1
    #expect(try await scene.worker.member.store.complete(worker: scene.worker.id, claim: claim, report: report))
    let error = try await refusal { try await scene.boss.store.retry(claim.job) }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("on_behalf_of: "), "\(error)")
    _ = try await scene.agent.store.retry(claim.job)
  }
}
