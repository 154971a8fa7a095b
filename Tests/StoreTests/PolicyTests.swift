import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

@Suite(.migrated) struct PolicyTests {
  /// The default document with members replaced or added; a nil value takes one away.
  static func document(_ changes: [String: JSONValue?] = [:]) async throws -> String {
    let text = try #require(try await admin("select document from cordon.show_policy()")[0])
    var members = try #require(json(text).object)
    for (name, value) in changes { members[name] = value }
    return String(decoding: try JSONEncoder().encode(JSONValue.object(members)), as: UTF8.self)
  }

  @Test func theDefaultIsWhatItWas() async throws {
    let policy = try await Member.make("cordon_auditor").store.policyInForce()
    #expect(policy.digest.description == "sha256:db1ff832b2eba5858032ec3f44ff054525835baf9678fc294e0599163df49221")
    #expect(try PolicyTerms(document: policy.document) == PolicyTerms())
  }

  @Test func settingOneKeepsHistoryAndSaysWho() async throws {
    let boss = try await Member.make("cordon_operator")
    let before = try await boss.store.policyInForce()
    let terms: [String: JSONValue?] = [
      "waivers": .array([.string("uids")]),
      "warm": .object([
        "python3": .object(["mode": .string("interpreter"), "imports": .array([.string("json"), .string("os.path")])])
      ]),
    ]
    let digest = try await boss.store.setPolicy(try await Self.document(terms))
    let policy = try await boss.store.policyInForce()
    #expect(policy.digest == digest && policy.setBy == boss.role && policy.since > before.since)
    // What Swift reads of it is what was asked.
    let read = try PolicyTerms(document: policy.document)
    #expect(read.waivers == ["uids"])
    #expect(read.warm == [.python3: .init(mode: .interpreter, imports: ["json", "os.path"])])

    // The same again, in another spelling, is the same policy and no event.
    let spaced = policy.document.replacing(",", with: " ,\n ").replacing("\"waivers\"", with: "\"w\\u0061ivers\"")
    #expect(try await boss.store.setPolicy(spaced) == digest)
    #expect(try await boss.store.policyInForce() == policy)
    #expect(try await boss.store.setPolicy(before.document) == before.digest)
    #expect(
      try await admin("select digest from cordon.policy_in_force order by id")
        == [before.digest.description, digest.description, before.digest.description])
    let events = try await admin(
      "select who || ' ' || (detail ->> 'policy') from cordon.audit where what = 'policy_set' order by id")
    #expect(events == ["\(boss.role) \(digest)", "\(boss.role) \(before.digest)"])
  }

  @Test func interpretersMayBeForked() async throws {
    let boss = try await Member.make("cordon_operator")
    let zygote = JSONValue.object([
      "python3": .object(["mode": .string("zygote"), "imports": .array([.string("json")])])
    ])
    _ = try await boss.store.setPolicy(try await Self.document(["warm": zygote]))
    let read = try PolicyTerms(document: try await boss.store.policyInForce().document)
    #expect(read.warm == [.python3: .init(mode: .zygote, imports: ["json"])])
  }

  @Test func theBytesAreCanonical() async throws {
    let boss = try await Member.make("cordon_operator")
    var ceilings = try #require(try json(try await Self.document())["ceilings"]?.object)
    ceilings["cpus"] = .number(1.5)
    let given = try await Self.document(["ceilings": .object(ceilings), "waivers": .array([])])
      .replacing("1.5", with: "150.0e-2").replacing("\"pids\":64", with: "\"pids\":6.40e1")
    let digest = try await boss.store.setPolicy(given)
    let policy = try await boss.store.policyInForce()
    #expect(sha256Text(policy.document) == digest.description)
    #expect(policy.document.contains(#""cpus":1.5,"#) && policy.document.contains(#""pids":64,"#))
    #expect(policy.document.contains(#""waivers":[]"#) && !policy.document.contains(" "))
    #expect(policy.document.hasPrefix(#"{"ceilings":{"cpus":"#))
  }

  /// What is not exactly a policy changes nothing, and the one line says where.
  @Test("OP-04: unknown, ill-typed, missing and doubled members are refused with their path")
  func strict() async throws {
    let boss = try await Member.make("cordon_operator")
    let before = try await boss.store.policyInForce()
    func warm(_ value: JSONValue) -> [String: JSONValue?] { ["warm": .object(["python3": value])] }
    let cases: [([String: JSONValue?], String)] = [
      (["network": .object([:])], "network: "), (["lease": nil as JSONValue?], "lease: "),
      (["lease": .null], "lease: "),
      (["version": .integer(2)], "version: "), (["version": .string("1")], "version: "),
      (["runtimes": .array([.string("perl")])], "runtimes[0]: "),
      (["waivers": .string("uids")], "waivers: "), (["waivers": .null], "waivers: "),
      (["waivers": .array([.string("uids"), .string("uids")])], "waivers[1]: "),
      (["waivers": .array([.string("")])], "waivers[0]: "), (["waivers": .array([.integer(1)])], "waivers[0]: "),
      (["waivers": .array([.string("seccomp")])], "waivers[0]: "),
      (["waivers": .array([.string("UIDS")])], "waivers[0]: "),
      (["warm": .object(["perl": .object([:])])], "warm.perl: "), (["warm": .array([])], "warm: "),
      (warm(.object([:])), "warm.python3.mode: "), (warm(.object(["mode": .string("fork")])), "warm.python3.mode: "),
      (warm(.object(["mode": .array([])])), "warm.python3.mode: "),
      (
        warm(.object(["mode": .string("interpreter"), "imports": .array([.string("a b")])])),
        "warm.python3.imports[0]: "
      ),
      (warm(.object(["mode": .string("interpreter"), "imports": .string("json")])), "warm.python3.imports: "),
      (["outputs": .object(["memory": .string("1GiB")])], "outputs.memory: "),
      (["outputs": .object([:])], "outputs.on: "), (["outputs": .string("disk")], "outputs: "),
      (["outputs": .object(["on": .string("tape")])], "outputs.on: "), (["outputs": .null], "outputs: "),
      (["outputs": .object(["on": .null])], "outputs.on: "),
      (["outputs": .object(["on": .string("disk"), "size": .integer(1)])], "outputs.size: "),
      (["lease": .object(["attempts": .integer(0), "margin": .string("5m")])], "lease.attempts: "),
      (["lease": .object(["attempts": .integer(5), "margin": .integer(5)])], "lease.margin: "),
      (["defaults": .object([:])], "defaults."),
    ]
    for (change, path) in cases {
      let error = try await refusal { try await boss.store.setPolicy(try await Self.document(change)) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix(path), "\(path) \(error)")
      #expect(!error.message.contains("\n"))
    }
    let whole = before.document.dropLast()
    for (text, path) in [
      ("", "policy: "), ("[]", "policy: "), ("{", "policy: "), ("null", "policy: "),
      (whole + #","waivers":["uids"],"waivers":[]}"#, "waivers: "),
      (whole + #","waivers":["uids"],"w\u0061ivers":[]}"#, "waivers: "),
      (whole + #","warm":{"python3":{"mode":"interpreter","mode":"interpreter"}}}"#, "warm.python3.mode: "),
      (whole + #","waivers":1e400}"#, "policy: "), (whole + #","waivers":"\u0000"}"#, "policy: "),
      (before.document.replacing(#""memory":"256MiB""#, with: #""memory":"9GiB""#), "defaults.memory: "),
      (before.document.replacing(#""wall":"24h""#, with: #""wall":"999999999999999d""#), "ceilings.wall: "),
      (String(repeating: "[", count: 60_000), "policy: "), (String(repeating: " ", count: 70_000) + "{}", "policy: "),
    ] as [(String, String)] {
      let error = try await refusal { try await boss.store.setPolicy(text) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix(path), "\(text.prefix(80)) \(error)")
    }
    #expect(try await boss.store.policyInForce() == before)
    #expect(try await admin("select count(*) from cordon.policy") == ["1"])
  }

  @Test func onlyOperatorsSetOne() async throws {
    for group in ["cordon_producer", "cordon_worker", "cordon_auditor"] {
      let member = try await Member.make(group)
      let error = try await refusal { try await member.store.setPolicy("{}") }
      #expect(error.sqlState == "42501", "\(group)")
    }
  }

  /// What is asked for beyond memory is accepted and shown as it was given.
  @Test func outputsMayLieOnADisk() async throws {
    let boss = try await Member.make("cordon_operator")
    var ceilings = try #require(try json(try await Self.document())["ceilings"]?.object)
    ceilings["output"] = .string("64GiB")
    let digest = try await boss.store.setPolicy(
      try await Self.document(["ceilings": .object(ceilings), "outputs": .object(["on": .string("disk")])]))
    let policy = try await boss.store.policyInForce()
    #expect(policy.digest == digest && policy.document.contains(#""outputs":{"on":"disk"}"#))
    #expect(try PolicyTerms(document: policy.document).outputs == .disk)
    #expect(try await admin("select unnest(cordon.offers_asked_for())") == [PolicyTerms.diskOffer])
    #expect(
      try await admin("select unnest(cordon.offers_needed($1::text))", [Parameter(policy.document)])
        == [PolicyTerms.diskOffer])
  }

  @Test func databaseAndSwiftWaiveTheSame() async throws {
    let names = try await admin("select unnest(cordon.waivable_controls())").compactMap { $0 }
    #expect(Set(names) == PolicyTerms.waivable && names == names.sorted())
  }

  /// What was accepted before keeps its policy; what comes after has the new one's limits.
  @Test func aPolicyHoldsFromTheNextEnqueueOn() async throws {
    let producer = try await Member.producer()
    let boss = try await Member.make("cordon_operator")
    let big = #"{"runtime": "bash", "code": "", "limits": {"memory": "1GiB"}}"#
    let first = try await producer.store.enqueue(queue: "default", specification: big).job
    var ceilings = try #require(try json(try await Self.document())["ceilings"]?.object)
    ceilings["memory"] = .string("512MiB")
    let digest = try await boss.store.setPolicy(
      try await Self.document(["ceilings": .object(ceilings), "runtimes": .array([.string("bash")])]))
    let over = try await refusal { try await producer.store.enqueue(queue: "default", specification: big) }
    #expect(over.sqlState == "CD001")
    let other = try await refusal {
      try await producer.store.enqueue(
        queue: "default", specification: #"{"runtime": "exec", "argv": ["/usr/bin/true"]}"#)
    }
    #expect(other.sqlState == "42501")
    let second = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let before = try json(try await producer.store.record(first))["attribution"]?["policy"]
    let after = try json(try await producer.store.record(second))["attribution"]?["policy"]
    #expect(before != after && after == .string(digest.description))
  }
}

func sha256Text(_ text: String) -> String? {
  Migration(name: "1_x", sql: text)?.checksum.description
}
