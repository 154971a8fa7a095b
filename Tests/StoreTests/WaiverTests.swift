import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

@Suite(.migrated) struct WaiverTests {
  private static func waive(_ controls: [String]) async throws {
    let document = try await PolicyTests.document(["waivers": .array(controls.map(JSONValue.string))])
    _ = try await Member.superuser.store.setPolicy(document)
  }

  private static func register(
    _ member: Member, missing: [String] = [], queues: [String] = ["default"], offers: [String] = []
  ) async throws -> Int64 {
    try await member.store.registerWorker(
      name: "w", host: "h", build: "b", queues: queues, slots: 100, leaseSeconds: 30, missing: missing,
      offers: offers)
  }

  @Test("OP-02: a worker that lacks a control is registered only where the policy in force waives it")
  func registration() async throws {
    let member = try await Member.make("cordon_worker")
    for (waived, missing, named) in [
      ([], ["uids"], "uids"), (["groups"], ["uids"], "uids"), (["uids"], ["uids", "groups"], "groups"),
      (["uids"], ["seccomp"], "seccomp"), (["uids"], [""], "missing"),
    ] as [([String], [String], String)] {
      try await Self.waive(waived)
      let error = try await refusal { try await Self.register(member, missing: missing) }
      #expect(error.sqlState == "42501" && error.message.hasPrefix("missing: "), "\(error)")
      #expect(error.message.contains(named), "\(error)")
    }
    #expect(try await admin("select count(*) from cordon.worker") == ["0"])
    try await Self.waive(["uids", "groups"])
    let id = try await Self.register(member, missing: ["uids", "groups", "uids"])
    #expect(try await admin("select missing::text from cordon.worker where id = \(id)") == ["{groups,uids}"])
    #expect(
      try await admin("select detail ->> 'missing' from cordon.audit where what = 'registered'")
        == [#"["uids", "groups", "uids"]"#])
  }

  @Test("a worker is given only jobs whose own policy asks for nothing that it does not offer")
  func offers() async throws {
    let producer = try await Member.producer()
    let member = try await Member.make("cordon_worker")
    let plain = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let disk = try await PolicyTests.document(["outputs": .object(["on": .string("disk")])])
    _ = try await Member.superuser.store.setPolicy(disk)
    let large = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let without = try await Self.register(member)
    let with = try await Self.register(member, offers: [PolicyTerms.diskOffer])
    #expect(try await member.store.claim(worker: without, limit: 100).map(\.job) == [plain])
    #expect(try await member.store.claim(worker: with, limit: 100).map(\.job) == [large])
    let shown = try await Member.superuser.store.workers().map(json)
    #expect(shown.map { $0["offers"] } == [.array([.string(PolicyTerms.diskOffer)]), .array([])])
    for stranger in ["", "outputs", "uids"] {
      let error = try await refusal { try await Self.register(member, offers: [stranger]) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("offers: "), "\(error)")
    }
  }

  @Test("OP-02: it is given only jobs whose policy waives everything it lacks")
  func claims() async throws {
    let producer = try await Member.producer()
    func enqueue(_ count: Int) async throws -> Set<JobID> {
      let specifications = Array(repeating: sleepJob, count: count)
      return Set(try await producer.store.enqueueMany(queue: "default", specifications: specifications))
    }
    let strict = try await enqueue(30)
    try await Self.waive(["uids"])
    let weak = try await enqueue(2)
    try await Self.waive(["groups", "uids"])
    let weaker = try await enqueue(2)

    let member = try await Member.make("cordon_worker")
    let lacksBoth = try await Self.register(member, missing: ["uids", "groups"])
    let lacksOne = try await Self.register(member, missing: ["uids"])
    let lacksNothing = try await Self.register(member, missing: [])
    #expect(Set(try await member.store.claim(worker: lacksBoth, limit: 100).map(\.job)) == weaker)
    #expect(try await member.store.claim(worker: lacksBoth, limit: 100).isEmpty)
    let one = try await member.store.claim(worker: lacksOne, limit: 1)
    #expect(one.count == 1 && weak.contains(one[0].job), "one that may run is found behind many that may not")
    #expect(try PolicyTerms(document: one[0].policyDocument).waivers == ["uids"])
    // A policy in force that waives nothing takes back what has not begun, and gives nothing more to whoever lacks anything.
    try await Self.waive([])
    #expect(try await member.store.claim(worker: lacksOne, limit: 100).isEmpty)
    #expect(
      Set(try await member.store.claim(worker: lacksNothing, limit: 100).map(\.job))
        == strict.union(weak).union(weaker))
    #expect(try await admin("select count(*) from cordon.ready") == ["0"])
  }

  /// A strict worker's claim costs what it did; a weak one looks policies up by key.
  @Test func claimsOfWeakWorkersReadNoTableFromEndToEnd() async throws {
    let producer = try await Member.producer()
    try await Self.waive(["uids"])
    _ = try await producer.store.enqueueMany(queue: "default", specifications: Array(repeating: sleepJob, count: 200))
    let member = try await Member.make("cordon_worker")
    let id = try await Self.register(member, missing: ["uids"])
    #expect(try await member.store.claim(worker: id, limit: 10).count == 10)
    let settings = try await admin(
      "select array_to_string(proconfig, ' ') from pg_proc where oid = 'cordon.claim(bigint, int, int[], bigint[], int)'::regprocedure"
    )[0]
    for setting in ["jit=off", "enable_seqscan=off", "enable_bitmapscan=off", "enable_mergejoin=off"] {
      #expect(settings?.contains(setting) == true, "\(settings ?? "")")
    }
  }

  @Test("OP-03: a worker that stops by itself says why, gets nothing more, and its row stays to be seen")
  func drained() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueueMany(queue: "default", specifications: [sleepJob, sleepJob])
    let (member, id) = try await Member.worker()
    let held = try #require(try await member.store.claim(worker: id, limit: 1).first)
    try await member.store.reportDrained(worker: id, reason: "mounts: /usr is not\nro\0")
    try await member.store.reportDrained(worker: id, reason: "another")
    #expect(try await member.store.claim(worker: id, limit: 1).isEmpty)
    // What it holds it may end.
    #expect(try await member.store.start(worker: id, plain([held])) == [held.job])
    #expect(try await member.store.complete(worker: id, claim: held, report: .succeeded()))
    try await member.store.retireWorker(id)

    let auditor = try await Member.make("cordon_auditor")
    let row = try json(try #require(try await auditor.store.workers().first))
    #expect(row["state"] == .string("drained") && row["drained_reason"] == .string("mounts: /usr is not ro"))
    #expect(row["drained_at"]?.string?.hasSuffix("Z") == true && row["worker"] == .integer(id))
    let reasons = try await admin("select detail ->> 'reason' from cordon.audit where what = 'drained'")
    #expect(reasons == ["mounts: /usr is not ro"])
    // A rescue forgets it after a day of silence and not before.
    _ = try await member.store.rescue(limit: 10)
    #expect(try await auditor.store.workers().count == 1)
    _ = try await admin(
      "update cordon.worker set seen_at = clock_timestamp() - interval '25 hours' where id = \(id) returning id::text")
    _ = try await member.store.rescue(limit: 10)
    #expect(try await auditor.store.workers().isEmpty)
  }

  @Test func onlyItsOwnRoleReportsAWorker() async throws {
    let (_, id) = try await Member.worker()
    let other = try await Member.make("cordon_worker")
    let error = try await refusal { try await other.store.reportDrained(worker: id, reason: "spite") }
    #expect(error.sqlState == "CD410")
    #expect(try await admin("select drained_at is null from cordon.worker") == ["t"])
  }

  @Test func workersAreListedWithWhatTheyLack() async throws {
    try await Self.waive(["uids"])
    let member = try await Member.make("cordon_worker")
    let id = try await Self.register(member, missing: ["uids"])
    let boss = try await Member.make("cordon_operator")
    let row = try json(try #require(try await boss.store.workers().first))
    #expect(row["worker"] == .integer(id) && row["missing"] == .array([.string("uids")]))
    #expect(row["state"] == .string("serving") && row["queues"] == .array([.string("default")]))
    #expect(row["drained_at"] == .null && row["role"] == .string(member.role))
    let refused = try await refusal { try await member.store.workers() }
    #expect(refused.sqlState == "42501")
  }
}
