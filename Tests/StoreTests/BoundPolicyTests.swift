import FoundationEssentials
import Jobs
import Policies
import Postgres
import TestKit
import Testing

@testable import Store

/// Documents bound to tenants and queues, and what comes of them.
@Suite(.migrated) struct BoundPolicyTests {
  private let bash = #"{"runtime": "bash", "code": ""}"#

  private func memory(_ size: String) -> String {
    #"{"runtime": "bash", "code": "", "limits": {"memory": "\#(size)"}}"#
  }

  private func limits(of job: JobID) async throws -> JSONValue {
    try json(
      try #require(try await admin("select limits::text from cordon.job where id = $1", [Parameter("\(job)")])[0]))
  }

  /// Ceiling 8 GiB, tenant 1 GiB, queue 512 MiB, the tenant in the queue 256 MiB: each narrows the ones before.
  @Test func theNarrowestOfAllDecides() async throws {
    let boss = try await Member.make("cordon_operator")
    let (alpha, beta) = (try await Member.producer(tenant: "alpha"), try await Member.producer(tenant: "beta"))
    try await boss.store.addQueue(name: "small")
    func bind(_ size: String, _ tenant: String?, _ queue: String?) async throws {
      _ = try await boss.store.bindPolicy(
        #"{"version": 1, "ceilings": {"memory": "\#(size)"}}"#, tenant: tenant, queue: queue)
    }
    try await bind("1GiB", "alpha", nil)
    try await bind("512MiB", nil, "small")
    try await bind("256MiB", "alpha", "small")
    for (member, queue, most, over) in [
      (alpha, "default", "1GiB", "1025MiB"), (alpha, "small", "256MiB", "257MiB"), (beta, "default", "8GiB", "9GiB"),
      (beta, "small", "512MiB", "513MiB"),
    ] {
      _ = try await member.store.enqueue(queue: queue, specification: memory(most))
      let error = try await refusal { try await member.store.enqueue(queue: queue, specification: memory(over)) }
      #expect(error.sqlState == "CD001" && error.message.contains("over the \(most)"), "\(error)")
    }
    // A wider document takes nothing back of what the others say.
    try await bind("4GiB", "alpha", "small")
    let error = try await refusal { try await alpha.store.enqueue(queue: "small", specification: memory("513MiB")) }
    #expect(error.message.contains("over the 512MiB"))
    #expect(try await boss.store.unbindPolicy(tenant: "alpha", queue: "small"))
    #expect(try await !boss.store.unbindPolicy(tenant: "alpha", queue: "small"))
    #expect(
      try await boss.store.policyHistory(everything: true).map { try json($0)["scope"]?.string } == [
        "tenant alpha in queue small", "tenant alpha in queue small", "tenant alpha in queue small", "queue small",
        "tenant alpha", "ceiling",
      ])
    #expect(try await boss.store.policyHistory(everything: false).count == 3)
    #expect(
      try await admin("select count(*) from cordon.audit where what in ('policy_bound', 'policy_unbound')") == ["5"])
  }

  @Test func anEmptyListIsNoneAndAnAbsentOneSaysNothing() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    _ = try await boss.store.bindPolicy(#"{"version": 1}"#, tenant: "alpha", queue: nil)
    _ = try await producer.store.enqueue(queue: "default", specification: bash)
    _ = try await boss.store.bindPolicy(#"{"version": 1, "runtimes": []}"#, tenant: "alpha", queue: nil)
    let error = try await refusal { try await producer.store.enqueue(queue: "default", specification: bash) }
    #expect(error.sqlState == "42501" && error.message.hasPrefix("runtime: "))
  }

  @Test func defaultsOfTheNearestDocumentCountBelowTheCeiling() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    _ = try await boss.store.bindPolicy(
      #"{"version": 1, "defaults": {"memory": "1GiB", "pids": 7}, "ceilings": {"wall": "10s"}}"#, tenant: "alpha",
      queue: nil)
    let job = try await producer.store.enqueue(queue: "default", specification: bash).job
    let limits = try await limits(of: job)
    #expect(limits["memory_bytes"] == .integer(1 << 30) && limits["pids"] == .integer(7))
    #expect(limits["wall_ms"] == .integer(10_000))
  }

  @Test func aBoundDocumentIsJudgedStrictlyToo() async throws {
    let boss = try await Member.make("cordon_operator")
    for (text, path) in [
      ("{}", "version: "), (#"{"version": 1, "lease": {"attempts": 1, "margin": "5m"}}"#, "lease: "),
      (#"{"version": 1, "ceilings": {"memory": "lots"}}"#, "ceilings.memory: "),
      (#"{"version": 1, "ceilings": {"heap": 1}}"#, "ceilings.heap: "),
      (#"{"version": 1, "ceilings": 1}"#, "ceilings: "), (#"{"version": 1, "runtimes": null}"#, "runtimes: "),
      (#"{"version": 1, "waivers": ["seccomp"]}"#, "waivers[0]: "), (#"{"version": 1, "version": 1}"#, "version: "),
      (#"{"version": 1, "ceilings": {"memory": "1MiB"}, "defaults": {"memory": "2MiB"}}"#, "defaults.memory: "),
    ] {
      let error = try await refusal { try await boss.store.bindPolicy(text, tenant: "alpha", queue: nil) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix(path), "\(text) \(error)")
    }
    let nobody = try await refusal { try await boss.store.bindPolicy(#"{"version": 1}"#, tenant: nil, queue: nil) }
    #expect(nobody.sqlState == "22023")
    let nowhere = try await refusal {
      try await boss.store.bindPolicy(#"{"version": 1}"#, tenant: nil, queue: "nowhere")
    }
    #expect(nowhere.sqlState == "42501")
    #expect(try await !boss.store.bindPolicy(#"{"version": 1}"#, tenant: "misspelt", queue: nil).isKnown)
    #expect(try await admin("select count(*) from cordon.policy_binding") == ["1"])
  }

  /// Who may not enqueue what may not schedule it either.
  @Test func schedulesAreJudgedByTheirQueueAndTenant() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    _ = try await boss.store.bindPolicy(#"{"version": 1, "runtimes": ["exec"]}"#, tenant: nil, queue: "default")
    let error = try await refusal {
      try await producer.column(
        #"select cordon.set_schedule('nightly', '{"cron": "0 3 * * *", "zone": "UTC", "specification": {"runtime": "bash", "code": ""}}')::text"#
      )
    }
    #expect(error.sqlState == "42501" && error.message.contains("runtime"), "\(error)")
  }

  @Test func anExplanationNamesTheDocumentThatDecided() async throws {
    let boss = try await Member.make("cordon_operator")
    let source = "version: 1\n# Treasury's reconciliations are small.\nceilings:\n  memory: 512MiB\n"
    let document = try PolicyDocument(PolicySource(source), as: .narrowing)
    let bound = try await boss.store.bindPolicy(document.json, tenant: "alpha", queue: nil, source: source)
    #expect(bound.digest == document.digest)
    #expect(try await boss.store.policyDocument(bound.digest).source == source)
    let text = try await boss.store.explainPolicy(tenant: "alpha", queue: "default", specification: memory("1GiB"))
    let explained = try json(text)
    let members = try #require(explained["members"]?.array)
    func decider(_ member: String) -> String? {
      members.first { $0["member"]?.string == member }.flatMap { $0["scope"]?.string }
    }
    #expect(decider("ceilings.memory") == "tenant alpha" && decider("ceilings.pids") == "ceiling")
    let refused = try #require(explained["request"]?["refused"])
    #expect(refused["sqlstate"] == .string("CD001") && refused["member"] == .string("ceilings.memory"))
    #expect(refused["decided_by"]?["policy"] == .string("\(bound.digest)"))
    let fine = try json(try await boss.store.explainPolicy(tenant: "beta", queue: nil, specification: memory("1GiB")))
    #expect(fine["request"]?["allowed"] == .bool(true) && fine["request"]?["refused"] == .null)
    #expect(fine["policy"]?.string == (try await boss.store.policyInForce()).digest.description)
  }

  @Test func aSimulationTellsWhatWouldHaveBeenRefused() async throws {
    let boss = try await Member.make("cordon_operator")
    let (alpha, beta) = (try await Member.producer(tenant: "alpha"), try await Member.producer(tenant: "beta"))
    for size in ["1GiB", "2GiB", "1MiB"] {
      _ = try await alpha.store.enqueue(queue: "default", specification: memory(size))
    }
    _ = try await beta.store.enqueue(queue: "default", specification: memory("2GiB"))
    func simulate(_ tenant: String?) async throws -> JSONValue {
      try json(
        try await boss.store.simulatePolicy(
          #"{"version": 1, "ceilings": {"memory": "512MiB"}}"#, tenant: tenant, queue: tenant == nil ? "default" : nil,
          seconds: 3600, most: 100))
    }
    let ofAlpha = try await simulate("alpha")
    #expect(ofAlpha["jobs"] == .integer(3))
    #expect(ofAlpha["would_be_refused"]?.array?.compactMap { $0["jobs"]?.integer } == [1, 1])
    #expect(ofAlpha["would_be_refused"]?.array?[0]["member"] == .string("ceilings.memory"))
    let ofQueue = try await simulate(nil)
    #expect(ofQueue["would_be_refused"]?.array?.compactMap { $0["jobs"]?.integer } == [2, 1])
    // Nothing was bound by it.
    _ = try await alpha.store.enqueue(queue: "default", specification: memory("1GiB"))
  }

  /// One corpus, two judges: what Swift refuses the database refuses at the same path, and they name one document alike.
  @Test func databaseAndSwiftJudgeAlike() async throws {
    let boss = try await Member.make("cordon_operator")
    let whole = try #require(try json(try await boss.store.policyInForce().document).object)
    let parts: [[String: JSONValue]] = [
      [:], ["runtimes": .array([])], ["runtimes": .array([.string("perl")])], ["runtimes": .string("bash")],
      ["waivers": .array([.string("uids"), .string("uids")])], ["waivers": .array([.integer(1)])],
      ["outputs": .object([:])], ["outputs": .object(["on": .string("disk")])], ["outputs": .null],
      ["warm": .object(["perl": .object([:])])], ["warm": .object([:])],
      ["warm": .object(["python3": .object(["mode": .string("zygote"), "imports": .array([.string("os.path")])])])],
      ["warm": .object(["python3": .object(["mode": .string("zygote"), "imports": .array([.string("os.")])])])],
      ["ceilings": .object(["memory": .integer(5)])], ["ceilings": .object(["memory": .number(5.5)])],
      ["ceilings": .object(["memory": .string("1PiB")])], ["ceilings": .object(["memory": .string("1025TiB")])],
      ["ceilings": .object(["cpus": .number(0.5)])], ["ceilings": .object(["cpus": .number(0.001)])],
      ["ceilings": .object(["cpus": .string("1")])], ["ceilings": .object(["wall": .string("400d")])],
      ["ceilings": .object(["wall": .string("0s")])], ["ceilings": .object(["pids": .number(1e20)])],
      ["ceilings": .object(["pids": .integer(0)])], ["ceilings": .object(["pids": .bool(true)])],
      ["defaults": .object(["pids": .integer(9)]), "ceilings": .object(["pids": .integer(8)])],
      ["grants": .array([])], ["version": .integer(0)], ["grants": .object([:])],
      ["grants": .object(["x": .object([:])])], ["grants": .object(["X": .object([:])])],
      ["grants": .object(["x": .object(["allow": .array([.string("GET /a/*"), .string("GET /b/**?*")])])])],
      ["grants": .object(["x": .object(["allow": .array([.string("GET a")])])])],
      ["grants": .object(["x": .object(["allow_private": .array([.string("10.0.0.0/8"), .string("fd00::/8")])])])],
      ["grants": .object(["x": .object(["allow_private": .string("10.0.0.0/8")])])],
      ["grants": .object(["x": .object(["most": .object(["sent": .string("1MiB"), "requests": .integer(2)])])])],
      ["grants": .object(["x": .object(["most": .object(["sent": .string("lots")])])])],
      ["grants": .object(["x": .object(["most": .object(["requests": .integer(0)])])])],
      ["grants": .object(["x": .object(["host": .string("a.b"), "port": .integer(1), "mode": .string("tcp")])])],
      ["grants": .object(["x": .object(["host": .string("*.b"), "port": .integer(1), "mode": .string("tcp")])])],
      ["grants": .object(["x": .object(["host": .string("a.b"), "port": .integer(0), "mode": .string("tcp")])])],
      ["grants": .object(["x": .object(["host": .string("a.b"), "port": .integer(1), "mode": .string("udp")])])],
      ["audiences": .array([.string("https://a.b/c"), .string("d")])], ["audiences": .array([.string("a b")])],
      ["audiences": .array([.string(#"a"b\c</~"#)])],
      ["audiences": .array([.string("é")])], ["audiences": .array([.string("a"), .string("a")])],
      ["audiences": .array([.string("")])],
      ["audiences": .string("a")], ["audiences": .array([.string(String(repeating: "a", count: 256))])],
      ["credentials": .array([.string("a/b-c_d.e"), .string("f")])], ["credentials": .array([.string("A")])],
      ["credentials": .array([])], ["credentials": .null],
      ["filesystem": .object([:])], ["filesystem": .array([])], ["filesystem": .object(["inputs": .array([])])],
      ["filesystem": .object(["inputs": .array([.string("blob"), .string("result")])])],
      ["filesystem": .object(["inputs": .array([.string("mail")])])],
      ["filesystem": .object(["tmp": .string("noexec")])], ["filesystem": .object(["tmp": .bool(true)])],
      ["filesystem": .object(["tmp": .null])], ["filesystem": .object(["home": .string("ro")])],
      ["retention": .object([:])], ["retention": .object(["jobs": .string("90d"), "logs": .string("24h")])],
      ["retention": .object(["jobs": .string("23h")])], ["retention": .object(["logs": .string("36526d")])],
      ["retention": .object(["logs": .string("36525d")])], ["retention": .object(["logs": .integer(5)])],
      ["retention": .object(["artifacts": .string("90d")])], ["retention": .null],
    ]
    for part in parts {
      let narrowing = JSONValue.object(["version": .integer(1)].merging(part) { $1 })
      try await compare(narrowing, .narrowing) {
        try await boss.store.bindPolicy($0, tenant: "alpha", queue: nil).digest
      }
      // The same in a whole document: its limits are there, so a part's are merged into them.
      var members = whole
      for (name, value) in part {
        let merged = whole[name]?.object.flatMap { old in value.object.map { JSONValue.object(old.merging($0) { $1 }) }
        }
        members[name] = merged ?? value
      }
      try await compare(.object(members), .ceiling) { try await boss.store.setPolicy($0) }
    }
  }

  private func compare(
    _ document: JSONValue, _ kind: PolicyDocument.Kind, _ store: (String) async throws -> Digest
  ) async throws {
    let text = String(decoding: try JSONEncoder().encode(document), as: UTF8.self)
    do {
      let judged = try PolicyDocument(PolicySource(text), as: kind)
      #expect(try await store(text) == judged.digest, "\(text)")
    } catch let problem as PolicyProblem {
      let error = try await refusal { try await store(text) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("\(problem.path): "), "\(text) \(problem) \(error)")
    }
  }
}
