import Foundation
import Jobs
import Postgres
import Store
import TestKit
import Testing

@testable import Identity

/// A real lease, a real token, a real database between them.
@Suite(.migrated) struct LiveAttemptTests {
  /// As `cordon issuer serve` asks.
  private struct Asking: AttemptLiveness {
    let store: Store

    func isLive(job: String, attempt: Int, token: Int64, scopes: Set<String>) async throws -> Liveness {
      guard let id = JobID(job) else { return Liveness(isLive: false, asOf: .now) }
      let life = try await store.attemptIsLive(job: id, attempt: attempt, token: token, scopes: scopes)
      return Liveness(isLive: life.isLive, asOf: life.asOf)
    }
  }

  private func store(_ group: String) async throws -> (store: Store, role: String) {
    let role = try await Database.current.makeRole(in: [group])
    return (Store(pool: Database.current.pool(user: role, maximum: 2)), role)
  }

  private func attempt(_ claim: Claim) -> AttemptIdentity {
    AttemptIdentity(
      job: claim.job.description, attempt: claim.attempt, token: claim.token, queue: claim.queue, tenant: claim.tenant,
      submitter: claim.enqueuedBy, policy: claim.policy, code: [])
  }

  @Test("CR-07, CR-08: a token lives as long as its attempt, and is not the next one's")
  func wholeLife() async throws {
    let producer = try await store("cordon_producer")
    try await Store(pool: Database.current.pool(maximum: 1)).addPrincipal(role: producer.role, tenant: "alpha")
    let worker = try await store("cordon_worker").store
    let id = try await worker.registerWorker(
      name: "w", host: "h", build: "b", queues: ["default"], slots: 10, leaseSeconds: 30)
    let scene = try Scene()
    let introspection = try Introspection(
      liveness: Asking(store: try await store("cordon_introspector").store), audience: nil,
      secret: Array(repeating: 7, count: 32))
    let verifier = try await scene.verifier()
    func claimed() async throws -> Claim {
      let claim = try #require(try await worker.claim(worker: id, limit: 1).first)
      #expect(try await worker.start(worker: id, [(claim, StartAttribution())]) == [claim.job])
      return claim
    }
    func token(_ claim: Claim, leaseLeft: Double = 60) async throws -> String {
      try await scene.issuer.workloadToken(
        for: attempt(claim), audience: "a", lifetime: try TokenLifetime(now: .now, deadline: .now + leaseLeft))
    }
    func isActive(_ token: String) async -> Bool {
      if case .active = await introspection.answer(token, verifier: verifier) { true } else { false }
    }

    _ = try await producer.store.enqueue(
      queue: "default", specification: #"{"runtime": "bash", "code": "sleep 1", "retry": {"attempts": 2}}"#)
    let first = try await claimed()
    let old = try await token(first)
    #expect(await isActive(old))
    // The worker is lost, another one takes the job up: attempt n+1 lives, and the token of attempt n does not.
    try await Database.current.execute("update cordon.worker set seen_at = now() - interval '1 minute'")
    #expect(await !isActive(old))
    #expect(try await worker.rescue(limit: 10) == 1)
    _ = try await worker.heartbeat(worker: id, held: [])
    let second = try await claimed()
    #expect(second.job == first.job && second.attempt == 2)
    let new = try await token(second)
    #expect(await isActive(new))
    #expect(await !isActive(old))
    #expect(try await worker.complete(worker: id, finished: [(second, report)])[second.job] == true)
    #expect(await !isActive(new))
  }

  private var report: AttemptReport { AttemptReport(outcome: .succeeded) }

  @Test("a database that is away is no answer")
  func away() async throws {
    let scene = try Scene()
    let pool = Pool(
      ConnectionSettings("host=/nowhere dbname=none", connectTimeout: .seconds(1)), maximum: 1,
      waitLimit: .milliseconds(200))
    let introspection = try Introspection(
      liveness: Asking(store: Store(pool: pool)), audience: nil, secret: Array(repeating: 7, count: 32))
    let answer = await introspection.answer(try await scene.token(), verifier: try await scene.verifier())
    guard case .unavailable(let reason) = answer else {
      Issue.record("\(answer)")
      return
    }
    #expect(!reason.isEmpty)
    await pool.close()
  }
}
