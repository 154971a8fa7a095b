import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What the database takes down of credentials: names and versions, and what is still to be ended.
@Suite("Credentials that were given", .migrated) struct CredentialGivenTests {
  private struct Setting {
    let producer: Member
    let worker: (member: Member, id: Int64)
    let job: JobID
    let claim: Claim

    init() async throws {
      producer = try await Member.producer()
      job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
      let made = try await Member.worker()
      worker = (made.member, made.id)
      claim = try #require(try await made.member.store.claim(worker: made.id, limit: 1).first)
      _ = try await made.member.store.start(worker: made.id, plain([claim]))
    }

    func give(
      _ name: String, _ kind: Store.CredentialKind = .request, _ version: String = "version 1", token: Int64? = nil
    ) async throws -> Bool {
      try await worker.member.store.giveCredential(
        worker: worker.id, job: job, token: token ?? claim.token, credential: name, kind: kind, version: version)
    }

    func given() async throws -> [JSONValue] { try await producer.store.credentials(job).map { try json($0) } }
  }

  @Test("CR-20: each version is there once, with when it was given; it is over with the attempt")
  func versions() async throws {
    let setting = try await Setting()
    for version in ["version 1", "version 2", "version 1"] {
      #expect(try await setting.give("index", .request, version))
    }
    let given = try await setting.given()
    #expect(given.map { $0["version"]?.string } == ["version 1", "version 2"])
    #expect(given.allSatisfy { $0["alive"] == .bool(true) && $0["ended_at"] == .null && $0["attempt"] == .integer(1) })
    #expect(
      try await setting.worker.member.store.complete(
        worker: setting.worker.id, claim: setting.claim, report: .succeeded()))
    #expect(try await setting.given().allSatisfy { $0["alive"] == .bool(false) && $0["ended_at"]?.string != nil })
  }

  @Test(
    "CR-07, CR-08: nothing is given by who does not hold the attempt, to another lease, or once it is cancelled or over"
  )
  func fenced() async throws {
    let setting = try await Setting()
    #expect(try await setting.give("index", token: setting.claim.token + 1) == false)
    let stranger = try await Member.worker()
    #expect(
      try await stranger.member.store.giveCredential(
        worker: stranger.id, job: setting.job, token: setting.claim.token, credential: "index", kind: .request,
        version: "1")
        == false)
    let forged = try await refusal {
      try await stranger.member.store.giveCredential(
        worker: setting.worker.id, job: setting.job, token: setting.claim.token, credential: "index", kind: .request,
        version: "1")
    }
    #expect(forged.sqlState?.hasPrefix("CD") == true, "a worker speaks for itself: \(forged)")
    _ = try await setting.producer.store.cancel(setting.job)
    #expect(try await setting.give("index") == false)
    #expect(try await setting.given().isEmpty)
  }

  @Test("a login is alive until its server is said to have it no more, whoever says so")
  func logins() async throws {
    let setting = try await Setting()
    #expect(try await setting.give("ledger", .login, "cordon_job_1_a"))
    let store = setting.worker.member.store
    #expect(try await store.loginsLeft(worker: setting.worker.id).isEmpty, "its attempt runs")
    #expect(try await store.complete(worker: setting.worker.id, claim: setting.claim, report: .succeeded()))
    #expect(try await setting.given().first?["alive"] == .bool(true))
    let boss = try await Member.make("cordon_operator")
    let live = try await boss.store.liveCredentials().map { try json($0) }
    #expect(live.map { $0["version"]?.string } == ["cordon_job_1_a"] && live.first?["left"] == .bool(true))
    let other = try await Member.worker()
    let left = try await other.member.store.loginsLeft(worker: other.id)
    #expect(left.map(\.credential) == ["ledger"] && left.map(\.role) == ["cordon_job_1_a"])
    try await other.member.store.loginsEnded(worker: other.id, roles: ["cordon_job_1_a", "cordon_job_9_z"])
    #expect(try await setting.given().first?["alive"] == .bool(false))
    #expect(try await other.member.store.loginsLeft(worker: other.id).isEmpty)
    #expect(try await boss.store.liveCredentials().isEmpty)
  }

  @Test("a worker with a tenant is told of that tenant's logins, the oldest first, and speaks for no other's")
  func ofOneTenant() async throws {
    let setting = try await Setting()
    for version in ["z", "a"] { #expect(try await setting.give("ledger", .login, version)) }
    #expect(
      try await setting.worker.member.store.complete(
        worker: setting.worker.id, claim: setting.claim, report: .succeeded()))
    for tenant in ["beta", "alpha"] {
      let member = try await Member.make("cordon_worker")
      try await Member.superuser.store.addPrincipal(role: member.role, tenant: tenant)
      let id = try await member.registered()
      let own = tenant == "alpha"
      #expect(try await member.store.loginsLeft(worker: id).map(\.role) == (own ? ["z", "a"] : []))
      try await member.store.loginsEnded(worker: id, roles: ["z"])
      #expect(
        try await setting.worker.member.store.loginsLeft(worker: setting.worker.id).map(\.role)
          == (own ? ["a"] : ["z", "a"]))
    }
  }

  @Test("which server a login is on is kept for whoever is to say that it is gone")
  func place() async throws {
    let setting = try await Setting()
    let store = setting.worker.member.store
    #expect(
      try await store.giveCredential(
        worker: setting.worker.id, job: setting.job, token: setting.claim.token, credential: "ledger", kind: .login,
        version: "cordon_job_1_a", place: "ledger.internal:5432/books"))
    #expect(try await setting.give("ledger", .login, "cordon_job_1_b"))
    #expect(try await store.complete(worker: setting.worker.id, claim: setting.claim, report: .succeeded()))
    let left = try await store.loginsLeft(worker: setting.worker.id).sorted { $0.role < $1.role }
    #expect(left.map(\.place) == ["ledger.internal:5432/books", nil])
  }

  @Test("what can be used now is for operators and auditors; a job's is for its tenant")
  func readers() async throws {
    let setting = try await Setting()
    #expect(try await setting.give("index"))
    let auditor = try await Member.make("cordon_auditor")
    let live = try await auditor.store.liveCredentials().map { try json($0) }
    #expect(live.map { $0["credential"]?.string } == ["index"] && live.first?["left"] == .bool(false))
    #expect(try await refusal { try await setting.producer.store.liveCredentials() }.sqlState == "42501")
    let other = try await Member.producer(tenant: "beta")
    #expect(try await refusal { try await other.store.credentials(setting.job) }.sqlState == "CD404")
  }
}
