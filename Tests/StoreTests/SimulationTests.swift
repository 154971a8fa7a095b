import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What a document would have decided of what is on record.
@Suite("Simulation", .migrated) struct SimulationTests {
  private static let grants =
    #"{"index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /**"], "credential": "who"}}"#

  private func put(_ members: String, _ boss: Member) async throws -> Digest {
    let changes = try #require(try json(members).object).mapValues(Optional.some)
    return try await boss.store.setPolicy(try await PolicyTests.document(changes))
  }

  private func simulate(_ part: String, _ boss: Member, tenant: String? = "alpha") async throws -> JSONValue {
    try json(
      try await boss.store.simulatePolicy(
        #"{"version": 1, \#(part)}"#, tenant: tenant, queue: tenant == nil ? "default" : nil, seconds: 3600, most: 100))
  }

  @Test("jobs that were held are told where the document would not have held them")
  func held() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let small = #"{"runtime": "bash", "code": "", "limits": {"memory": "1GiB"}}"#
    let job = try await producer.store.enqueue(queue: "default", specification: small).job
    _ = try await boss.store.bindPolicy(
      #"{"version": 1, "ceilings": {"memory": "512MiB"}}"#, tenant: "alpha", queue: nil)
    let worker = try await Member.worker()
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 5).count == 1)
    for (size, count) in [("2GiB", 1), ("512MiB", 0)] {
      let outcome = try await simulate(#""ceilings": {"memory": "\#(size)"}"#, boss)
      #expect(outcome["held"] == .integer(1) && outcome["jobs"] == .integer(2))
      let freed = try #require(outcome["would_not_be_held"]?.array)
      #expect(freed.count == count, "\(size) \(outcome)")
      if let first = freed.first {
        #expect(first["example"] == .string("\(job)") && first["jobs"] == .integer(1))
        #expect(first["reason"]?.string?.hasPrefix("limits.memory: ") == true)
      }
    }
  }

  @Test("what jobs would have had less of without asking for it by name is told apart from what would be refused")
  func losses() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    _ = try await put(#"{"grants": \#(Self.grants), "audiences": ["a", "b"]}"#, boss)
    let granted = #"{"runtime": "bash", "code": "", "grants": ["index"]}"#
    let job = try await producer.store.enqueue(queue: "default", specification: granted).job
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let outcome = try await simulate(#""audiences": ["b"], "filesystem": {"tmp": "noexec"}"#, boss)
    #expect(outcome["would_be_refused"] == .array([]))
    let lost = try #require(outcome["would_lose"]?.array)
    #expect(lost.map { $0["member"]?.string } == ["filesystem.tmp", "audiences"])
    #expect(lost.map { $0["jobs"]?.integer } == [2, 1] && lost.map { $0["value"]?.string } == ["exec", "a"])
    #expect(lost[1]["example"] == .string("\(job)"))
    // Who asks for a grant whose credential goes is refused, and loses nothing beside that.
    let stricter = try await simulate(#""credentials": [], "audiences": []"#, boss)
    #expect(stricter["would_be_refused"]?.array?.compactMap { $0["jobs"]?.integer } == [1])
    #expect(stricter["would_lose"] == .array([]))
    #expect(
      try await simulate(#""audiences": ["a", "b"]"#, boss)["would_lose"] == .array([]))
    // What could not be written when it was refused is not there.
    let kinds = try await simulate(#""filesystem": {"inputs": []}"#, boss)
    #expect(kinds["would_be_refused"] == .array([]) && kinds["jobs"] == .integer(2))
  }

  @Test("lines of ledgers come page by page, the newest first, with what their attempts ran under")
  func pages() async throws {
    let boss = try await Member.make("cordon_operator")
    let policy = try await put(#"{"grants": \#(Self.grants)}"#, boss)
    var jobs: [JobID] = []
    let worker = try await Member.worker()
    for tenant in ["alpha", "beta", "alpha"] {
      let producer = try await Member.producer(tenant: tenant)
      let job = try await producer.store.enqueue(
        queue: "default", specification: #"{"runtime": "bash", "code": "", "grants": ["index"]}"#
      ).job
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      _ = try await worker.member.store.start(worker: worker.id, plain([claim]))
      let lines = (1...5).map { #"{"hash":"h\#($0)","previous":"h\#($0 - 1)","seq":\#($0)}"# }
      #expect(
        try await worker.member.store.appendEgress(worker: worker.id, job: job, token: claim.token, lines: lines))
      jobs.append(job)
    }
    func all(_ tenant: String?, page: Int) async throws -> [Store.PastEgress] {
      var found: [Store.PastEgress] = []
      while true {
        let next = try await boss.store.pastEgress(
          tenant: tenant, queue: nil, seconds: 3600, before: found.last, most: page)
        found += next
        if next.count < page { return found }
      }
    }
    let whole = try await all(nil, page: 100)
    #expect(whole.map(\.job) == jobs.reversed().flatMap { Array(repeating: "\($0)", count: 5) })
    #expect(whole.prefix(5).map(\.seq) == [5, 4, 3, 2, 1])
    #expect(whole.allSatisfy { $0.policy == policy && $0.attempt == 1 && $0.queue == "default" })
    #expect(try whole.allSatisfy { try json($0.grants) == .array([.string("index")]) })
    for page in [1, 2, 5] {
      let paged = try await all(nil, page: page)
      #expect(paged == whole, "pages of \(page)")
    }
    let ofBeta = try await all("beta", page: 2)
    #expect(ofBeta == whole.filter { $0.tenant == "beta" } && ofBeta.count == 5)
    _ = try await admin(
      "insert into cordon.narrowed (job, attempt, policy) values ($1::uuid, 1, 'sha256:' || repeat('0', 64)) returning job::text",
      [Parameter("\(jobs[0])")])
    #expect(try await all("alpha", page: 9).last?.policy.description.hasSuffix("0000") == true)
    for most in [0, 10_001] {
      let error = try await refusal {
        try await boss.store.pastEgress(tenant: nil, queue: nil, seconds: 60, before: nil, most: most)
      }
      #expect(error.sqlState == "22023")
    }
    let auditor = try await Member.make("cordon_auditor")
    let closed = try await refusal {
      try await auditor.store.pastEgress(tenant: nil, queue: nil, seconds: 60, before: nil, most: 1)
    }
    #expect(closed.sqlState == "42501")
  }

  @Test("what would be in force is told for a tenant in a queue, and nothing is bound by asking")
  func trial() async throws {
    let boss = try await Member.make("cordon_operator")
    _ = try await put(#"{"audiences": ["a", "b"]}"#, boss)
    func audiences(of tenant: String) async throws -> JSONValue? {
      try json(
        try await boss.store.trialDocument(
          #"{"version": 1, "audiences": ["b"]}"#, boundTo: "alpha", queue: nil, ofTenant: tenant, ofQueue: "default")
      )["audiences"]
    }
    #expect(try await audiences(of: "alpha") == .array([.string("b")]))
    #expect(try await audiences(of: "beta") == .array([.string("a"), .string("b")]))
    #expect(try await admin("select count(*) from cordon.policy_binding") == ["0"])
  }
}
