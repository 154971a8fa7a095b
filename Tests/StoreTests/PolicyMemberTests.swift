import FoundationEssentials
import Jobs
import Policies
import Postgres
import TestKit
import Testing

@testable import Store

/// Audiences, credentials, the file system and how long things are kept, as documents say it.
@Suite("Members of a policy", .migrated) struct PolicyMemberTests {
  private static let index =
    #"{"index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /**"], "credential": "who"}, "logs": {"host": "logs.internal", "port": 443, "mode": "http", "allow": ["POST /"], "credential": "logs"}}"#

  /// Puts these members into the policy in force.
  private func put(_ members: String, _ boss: Member) async throws {
    let changes = try #require(try json(members).object).mapValues(Optional.some)
    _ = try await boss.store.setPolicy(try await PolicyTests.document(changes))
  }

  private func bind(_ members: String, _ boss: Member) async throws {
    _ = try await boss.store.bindPolicy(#"{"version": 1, \#(members)}"#, tenant: "alpha", queue: nil)
  }

  private func effective(_ boss: Member) async throws -> JSONValue {
    let digest = try #require(
      Digest(try json(try await boss.store.explainPolicy(tenant: "alpha", queue: nil))["policy"]?.string ?? ""))
    return try json(try await admin("select cordon.effective_document('alpha', null)::text")[0] ?? "").merging(
      digest: digest)
  }

  @Test("a document that narrows takes audiences, kinds and credentials away, gives none, and keeps longer")
  func narrowed() async throws {
    let boss = try await Member.make("cordon_operator")
    try await put(
      #"{"audiences": ["a", "b"], "filesystem": {"inputs": ["path", "text"]}, "retention": {"jobs": "30d"}, "grants": \#(Self.index)}"#,
      boss)
    let before = try await effective(boss)
    try await bind(#""audiences": ["b", "c"], "filesystem": {"inputs": ["text", "blob"], "tmp": "noexec"}"#, boss)
    var now = try await effective(boss)
    #expect(now["audiences"] == .array([.string("b")]))
    #expect(now["filesystem"] == .object(["inputs": .array([.string("text")]), "tmp": .string("noexec")]))
    #expect(now["retention"] == before["retention"] && now["grants"] == before["grants"])
    // What says as much, or more, leaves the document and its name.
    try await bind(
      #""audiences": ["a", "b", "c"], "filesystem": {"inputs": ["path", "text", "result"], "tmp": "exec"}, "retention": {"jobs": "29d"}, "credentials": ["logs", "who", "x"]"#,
      boss)
    #expect(try await effective(boss) == before)
    try await bind(#""retention": {"jobs": "31d", "logs": "1d"}, "credentials": ["logs"], "audiences": []"#, boss)
    now = try await effective(boss)
    #expect(now["retention"] == .object(["jobs": .string("31d"), "logs": .string("1d")]))
    #expect(now["audiences"] == .array([]) && now["credentials"] == nil)
    #expect(now["grants"]?.object?.keys.sorted() == ["logs"])
    // Nothing that the ceiling does not have comes of it.
    try await put(#"{"audiences": [], "grants": {}}"#, boss)
    try await bind(#""audiences": ["a"], "credentials": ["who"]"#, boss)
    now = try await effective(boss)
    #expect(now["audiences"] == .array([]) && now["grants"] == .object([:]))
  }

  @Test("a grant whose credential was taken away is refused, and held, as one that is not there")
  func credentials() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    try await put(#"{"grants": \#(Self.index)}"#, boss)
    let job = #"{"runtime": "bash", "code": "", "grants": ["index"]}"#
    let waiting = try await producer.store.enqueue(queue: "default", specification: job).job
    let source = "version: 1\n# Nobody is told who we are.\ncredentials:\n  - logs\n"
    let document = try PolicyDocument(PolicySource(source), as: .narrowing)
    _ = try await boss.store.bindPolicy(document.json, tenant: "alpha", queue: nil, source: source)
    let error = try await refusal { try await producer.store.enqueue(queue: "default", specification: job) }
    #expect(error.sqlState == "42501" && error.hint == "the policy grants logs")
    let worker = try await Member.worker()
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 5).isEmpty)
    #expect(try json(try await producer.store.record(waiting))["state"] == .string("held"))
    let explained = try json(
      try await boss.store.explainPolicy(tenant: "alpha", queue: nil, specification: job))
    let refused = explained["request"]?["refused"]
    #expect(refused?["member"] == .string("grants"))
    #expect(refused?["decided_by"]?["policy"] == .string("\(document.digest)"))
    #expect(document.source.line(deciding: "grants") == 3)
  }

  @Test("inputs of a kind that the policy does not have are refused, and held when it had them once")
  func inputs() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    let path = #"{"runtime": "bash", "code": "", "inputs": {"a.csv": {"path": "a.csv"}, "b": {"text": ""}}}"#
    let program = #"{"runtime": "bash", "code": {"path": "main.sh"}}"#
    let own = #"{"runtime": "bash", "code": {"text": ""}}"#
    let waiting = try await producer.store.enqueue(queue: "default", specification: path).job
    try await put(#"{"filesystem": {"inputs": ["text"]}}"#, boss)
    for (job, field) in [(path, "inputs.a.csv"), (program, "code")] {
      let error = try await refusal { try await producer.store.enqueue(queue: "default", specification: job) }
      #expect(
        error.sqlState == "42501"
          && error.message == "\(field): path is a kind of input that policy does not allow", "\(error)")
      #expect(error.hint == "the policy allows text")
      let explained = try json(try await boss.store.explainPolicy(tenant: "alpha", queue: nil, specification: job))
      #expect(explained["request"]?["refused"]?["member"] == .string("filesystem.inputs"))
    }
    _ = try await producer.store.enqueue(queue: "default", specification: own)
    let worker = try await Member.worker()
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 5).count == 1)
    let record = try json(try await producer.store.record(waiting))
    #expect(record["state"] == .string("held"))
    #expect(
      try await admin("select reason from cordon.held")
        == ["inputs.a.csv: path is a kind of input that policy does not allow any more"])
    try await put(#"{"filesystem": {"inputs": []}}"#, boss)
    let none = try await refusal {
      try await producer.store.enqueue(
        queue: "default", specification: #"{"runtime": "bash", "code": "", "inputs": {"b": {"text": ""}}}"#)
    }
    #expect(none.hint == "the policy allows none")
    _ = try await producer.store.enqueue(queue: "default", specification: own)
    #expect(
      try await admin("select jsonb_array_elements_text(cordon.input_kinds())").compactMap { $0 }
        == Source.Kind.allCases.map(\.rawValue).sorted())
  }

  @Test("a token may be for whom the attempt's policy and the one in force both name")
  func audiences() async throws {
    let boss = try await Member.make("cordon_operator")
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    func begun() async throws -> Claim {
      _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
      let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
      _ = try await worker.member.store.start(worker: worker.id, plain([claim]))
      return claim
    }
    func names(_ audience: String, _ claim: Claim) async throws -> Bool {
      try #require(
        try await worker.member.store.attemptIdentity(
          worker: worker.id, job: claim.job, token: claim.token, audience: audience)
      ).namesAudience
    }
    let without = try await begun()
    #expect(try await !names("a", without))
    try await put(#"{"audiences": ["a", "b"]}"#, boss)
    let with = try await begun()
    #expect(try await names("a", with))
    #expect(try await names("b", with))
    #expect(try await !names("c", with))
    // What was accepted under less stays under less.
    #expect(try await !names("a", without))
    try await bind(#""audiences": ["b", "c"]"#, boss)
    #expect(try await !names("a", with))
    #expect(try await !names("c", with))
    #expect(try await names("b", with))
    let stranger = try await Member.worker()
    #expect(
      try await stranger.member.store.attemptIdentity(
        worker: stranger.id, job: with.job, token: with.token, audience: "b") == nil)
  }
}

extension JSONValue {
  /// The document, if it has this name.
  fileprivate func merging(digest: Digest) throws -> JSONValue {
    try #require(try CanonicalJSON.digest(self) == digest)
    return self
  }
}
