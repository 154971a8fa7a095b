import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// What a policy lets jobs reach, and what its database keeps of what they reached.
@Suite("Grants", .migrated) struct GrantTests {
  private static let grants = """
    {"index": {"host": "pypi.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*", "GET /packages/**"],
      "allow_private": ["10.0.0.0/8"], "most": {"sent": "1MiB", "requests": 100}, "credential": "index"},
     "ledger": {"host": "ledger.internal", "port": 5432, "mode": "tcp"}}
    """
  private static func job(_ grants: String...) -> String {
    #"{"runtime": "bash", "code": "true", "grants": [\#(grants.map { "\"\($0)\"" }.joined(separator: ","))]}"#
  }

  /// Puts the grants into the policy in force; nil takes them out.
  private func grant(_ grants: String?, _ boss: Member) async throws {
    var members = try #require(try json(try await boss.store.policyInForce().document).object)
    members["grants"] = try grants.map { try json($0) }
    _ = try await boss.store.setPolicy(
      String(decoding: try JSONEncoder().encode(JSONValue.object(members)), as: UTF8.self))
  }

  @Test("nothing is granted by default, and what is refused is told with what there is")
  func refusals() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let nothing = try await refusal {
      try await producer.store.enqueue(queue: "default", specification: Self.job("index"))
    }
    #expect(nothing.sqlState == "42501" && nothing.message == "grants: \"index\" is not granted by policy")
    #expect(nothing.hint?.contains("grants nothing") == true)
    try await grant(Self.grants, boss)
    _ = try await producer.store.enqueue(queue: "default", specification: Self.job("index", "ledger"))
    let other = try await refusal {
      try await producer.store.enqueue(queue: "default", specification: Self.job("logs"))
    }
    #expect(other.hint == "the policy grants index, ledger")
    for (asked, path) in [
      (#"["index","index"]"#, "grants[1]"), ("[1]", "grants[0]"), (#""index""#, "grants"), ("{}", "grants"),
    ] {
      let error = try await refusal {
        try await producer.store.enqueue(
          queue: "default", specification: #"{"runtime":"bash","code":"true","grants":\#(asked)}"#)
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("\(path): "), "\(error)")
    }
  }

  @Test("a document that narrows takes names, routes, addresses and amounts away, and gives nothing")
  func narrowed() async throws {
    let boss = try await Member.make("cordon_operator")
    try await grant(Self.grants, boss)
    let narrow = #"""
      {"version": 1, "grants": {"index": {"allow": ["GET /simple/*", "PUT /simple/*"], "allow_private": [],
        "most": {"sent": "10KiB", "requests": 1000}}, "more": {}}}
      """#
    _ = try await boss.store.bindPolicy(narrow, tenant: "alpha", queue: nil)
    let alpha = try await Member.producer()
    let refused = try await refusal {
      try await alpha.store.enqueue(queue: "default", specification: Self.job("ledger"))
    }
    #expect(refused.hint == "the policy grants index")
    _ = try await alpha.store.enqueue(queue: "default", specification: Self.job("index"))
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    let index = try json(claim.policyDocument)["grants"]?["index"]
    #expect(index?["allow"] == .array([.string("GET /simple/*")]))
    #expect(index?["allow_private"] == .array([]))
    #expect(index?["most"] == .object(["sent": .string("10KiB"), "requests": .integer(100)]))
    #expect(index?["host"]?.string == "pypi.internal" && index?["credential"]?.string == "index")
    #expect(claim.specification?.grants == ["index"])
    for (part, path) in [
      (#"{"index": {"host": "elsewhere"}}"#, "grants.index.host"), (#"{"index": {"port": 1}}"#, "grants.index.port"),
      (#"["index"]"#, "grants"), (#"{"index": {"allow": "GET /"}}"#, "grants.index.allow"),
    ] {
      let error = try await refusal {
        try await boss.store.bindPolicy(#"{"version": 1, "grants": \#(part)}"#, tenant: "beta", queue: nil)
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("\(path): "), "\(error)")
    }
    let explained = try json(
      try await boss.store.explainPolicy(tenant: "alpha", queue: "default", specification: Self.job("ledger")))
    #expect(explained["request"]?["refused"]?["member"]?.string == "grants")
    #expect(explained["request"]?["refused"]?["decided_by"]?["scope"]?.string == "tenant alpha")
  }

  @Test("a grant that is taken away holds what waits for it; one that is narrowed runs under the narrower")
  func judgedAgain() async throws {
    let boss = try await Member.make("cordon_operator")
    try await grant(Self.grants, boss)
    let producer = try await Member.producer()
    let ledger = try await producer.store.enqueue(queue: "default", specification: Self.job("ledger")).job
    let index = try await producer.store.enqueue(queue: "default", specification: Self.job("index")).job
    try await grant(
      """
      {"index": {"host": "pypi.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*"], "credential": "index"},
       "ledger": {"host": "ledger.internal", "port": 5433, "mode": "tcp"}}
      """, boss)
    let worker = try await Member.worker()
    let claims = try await worker.member.store.claim(worker: worker.id, limit: 5)
    #expect(claims.map(\.job) == [index])
    let grants = try json(try #require(claims.first).policyDocument)["grants"]
    #expect(grants?["index"]?["allow"] == .array([.string("GET /simple/*")]))
    #expect(grants?["index"]?["allow_private"] == .array([]))
    // 1 MiB was the old document's, 100 requests too; the new one leaves the broker's own.
    #expect(grants?["index"]?["most"] == .object(["sent": .string("1MiB"), "requests": .integer(100)]))
    // To another port is to another place.
    #expect(grants?["ledger"] == nil)
    #expect(try json(try await producer.store.record(ledger))["state"]?.string == "held")
  }

  @Test(
    "an attempt that runs is told of as soon as policies give less than it has, and not where they give as much or more"
  )
  func fallen() async throws {
    let boss = try await Member.make("cordon_operator")
    try await grant(Self.grants, boss)
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: Self.job("index")).job
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    _ = try await worker.member.store.start(worker: worker.id, plain([claim]))
    func fallen() async throws -> Set<Int64> {
      try await worker.member.store.egressFallen(worker: worker.id, held: [(job, claim.token)])
    }
    #expect(try await fallen().isEmpty)
    // Less of another grant, more of this one.
    try await grant(
      """
      {"index": {"host": "pypi.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*", "GET /packages/**", "GET /"],
        "allow_private": ["10.0.0.0/8"], "most": {"sent": "2MiB", "requests": 100}, "credential": "index"}}
      """, boss)
    #expect(try await fallen().isEmpty)
    _ = try await boss.store.bindPolicy(
      #"{"version": 1, "grants": {"index": {"most": {"requests": 99}}}}"#, tenant: "alpha", queue: nil)
    #expect(try await fallen() == [claim.token])
    _ = try await boss.store.unbindPolicy(tenant: "alpha", queue: nil)
    #expect(try await fallen().isEmpty)
    try await grant(nil, boss)
    #expect(try await fallen() == [claim.token])
  }

  @Test(
    "what is no grant is refused with its path",
    arguments: [
      ("{}", "grants.x.host"), (#"{"host":"*.a","port":1,"mode":"tcp"}"#, "grants.x.host"),
      (#"{"host":"A.b","port":1,"mode":"tcp"}"#, "grants.x.host"),
      (#"{"host":"localhost","port":1,"mode":"tcp"}"#, "grants.x.host"),
      (#"{"host":"a.b","port":0,"mode":"tcp"}"#, "grants.x.port"),
      (#"{"host":"a.b","port":1.5,"mode":"tcp"}"#, "grants.x.port"),
      (#"{"host":"a.b","port":1,"mode":"udp"}"#, "grants.x.mode"),
      (#"{"host":"a.b","port":1,"mode":"http"}"#, "grants.x.allow"),
      (#"{"host":"a.b","port":1,"mode":"tcp","allow":[]}"#, "grants.x.allow"),
      (#"{"host":"a.b","port":1,"mode":"http","allow":["GET x"]}"#, "grants.x.allow[0]"),
      (#"{"host":"a.b","port":1,"mode":"http","allow":["CONNECT /x"]}"#, "grants.x.allow[0]"),
      (#"{"host":"a.b","port":1,"mode":"tcp","allow_private":["10.0.0.1/8"]}"#, "grants.x.allow_private"),
      (#"{"host":"a.b","port":1,"mode":"tcp","allow_private":["all"]}"#, "grants.x.allow_private[0]"),
      (#"{"host":"a.b","port":1,"mode":"tcp","most":{"sent":0}}"#, "grants.x.most.sent"),
      (#"{"host":"a.b","port":1,"mode":"tcp","most":{"bytes":1}}"#, "grants.x.most.bytes"),
      (#"{"host":"a.b","port":1,"mode":"opaque","credential":"c"}"#, "grants.x.credential"),
      (#"{"host":"a.b","port":1,"mode":"http","allow":[],"credential":"C"}"#, "grants.x.credential"),
      (#"{"host":"a.b","port":1,"mode":"tcp","scheme":"x"}"#, "grants.x.scheme"),
      (#"{"host":"a.b","port":1,"mode":"tcp","phase":"later"}"#, "grants.x.phase"),
      (#"{"host":"a.b","port":1,"mode":"tcp","answer":"status"}"#, "grants.x.answer"),
      (#"{"host":"a.b","port":1,"mode":"http","allow":[],"answer":"none"}"#, "grants.x.answer"),
    ])
  func noGrant(_ text: String, _ path: String) async throws {
    let boss = try await Member.make("cordon_operator")
    let error = try await refusal { try await grant(#"{"x": \#(text)}"#, boss) }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("\(path): "), "\(error)")
  }

  @Test("NW-33: who may only be written to answers with a status, once any document says so, and what runs is told")
  func onlyTheStatus() async throws {
    let boss = try await Member.make("cordon_operator")
    try await grant(Self.grants, boss)
    let producer = try await Member.producer()
    let worker = try await Member.worker()
    func claim() async throws -> Claim {
      _ = try await producer.store.enqueue(queue: "default", specification: Self.job("index"))
      return try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    }
    let whole = try await claim()
    #expect(try json(whole.policyDocument)["grants"]?["index"]?["answer"] == nil)
    _ = try await worker.member.store.start(worker: worker.id, plain([whole]))
    func fallen() async throws -> Set<Int64> {
      try await worker.member.store.egressFallen(worker: worker.id, held: [(whole.job, whole.token)])
    }
    for (answer, isNarrower) in [("whole", false), ("status", true)] {
      _ = try await boss.store.bindPolicy(
        #"{"version": 1, "grants": {"index": {"answer": "\#(answer)"}}}"#, tenant: "alpha", queue: nil)
      #expect(try await fallen() == (isNarrower ? [whole.token] : []))
    }
    // Nobody gives it back.
    _ = try await boss.store.bindPolicy(
      #"{"version": 1, "grants": {"index": {"answer": "whole"}}}"#, tenant: nil, queue: "default")
    #expect(try json(try await claim().policyDocument)["grants"]?["index"]?["answer"]?.string == "status")
  }

  @Test("two grants that lead to one place are refused: nobody could say which of them a connection means")
  func ambiguous() async throws {
    let boss = try await Member.make("cordon_operator")
    let error = try await refusal {
      try await grant(
        #"{"a": {"host": "h.x", "port": 80, "mode": "tcp"}, "b": {"host": "h.x", "port": 443, "mode": "http", "allow": []}}"#,
        boss)
    }
    #expect(error.message.hasPrefix("grants.b: leads where"))
  }

  // MARK: - The ledger

  private func line(_ seq: Int, _ previous: String, _ hash: String) -> String {
    #"{"decision":"allowed","hash":"\#(hash)","previous":"\#(previous)","seq":\#(seq)}"#
  }

  @Test("lines are kept in their chain, once, by who holds the attempt, and read by its tenant alone")
  func ledger() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let worker = try await Member.worker()
    let store = worker.member.store
    let claim = try #require(try await store.claim(worker: worker.id, limit: 1).first)
    _ = try await store.start(worker: worker.id, plain([claim]))
    func append(_ lines: String..., as who: Int64? = nil, token: Int64? = nil) async throws -> Bool {
      try await store.appendEgress(worker: worker.id, job: job, token: token ?? claim.token, lines: lines)
    }
    #expect(try await append(line(1, "g", "h1"), line(2, "h1", "h2")))
    #expect(try await append(line(2, "h1", "h2"), line(3, "h2", "h3")), "once more, after an answer that was lost")
    let forked = try await refusal { try await append(self.line(4, "h2", "h4")) }
    #expect(forked.sqlState == "22023" && forked.message.contains("line 4 does not follow"))
    let gap = try await refusal { try await append(self.line(9, "h8", "h9")) }
    #expect(gap.message.contains("line 9 follows nothing"))
    #expect(try await append(line(4, "h3", "h4"), token: claim.token + 1) == false)
    let stranger = try await Member.worker()
    #expect(
      try await stranger.member.store.appendEgress(
        worker: stranger.id, job: job, token: claim.token, lines: [line(4, "h3", "h4")]) == false)

    #expect(try await store.complete(worker: worker.id, claim: claim, report: .succeeded()))
    #expect(try await append(line(4, "h3", "h4")), "the end of what was open is told a moment later")
    let kept = try #require(try await producer.store.egress(job))
    #expect(kept.attempt == 1 && kept.token == claim.token)
    #expect(kept.lines == [line(1, "g", "h1"), line(2, "h1", "h2"), line(3, "h2", "h3"), line(4, "h3", "h4")])
    let other = try await Member.producer(tenant: "beta")
    #expect(try await refusal { try await other.store.egress(job) }.sqlState == "CD404")
    let change = try await refusal { try await admin("update cordon.egress_line set line = '{}'") }
    #expect(change.message.contains("never changed"))
  }
}
