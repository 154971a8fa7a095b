import Foundation
import Jobs
import TestKit
import Testing

/// A document is tried on what jobs did, then bound, and jobs find what it says.
@Suite("Journey: a policy tried on the past", .serialized)
struct SimulationJourney {
  private static func grants(_ network: String) -> String {
    """
    {"index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*"],
      "allow_private": ["\(network).0/24"]},
     "raw": {"host": "raw.internal", "port": 7, "mode": "tcp", "allow_private": ["\(network).0/24"]}}
    """
  }

  @Test("what the broker decided would be decided otherwise, both ways; then it is, and /tmp is as the document says")
  func tried() async throws {
    let upstream = try Upstream()
    let house = try await House(
      slots: 1, options: ["--egress-trust", upstream.path("ca.pem")], through: upstream.through)
    let boss = Tool(url: house.superuser)
    try await house.grant(Self.grants(upstream.network))
    let script = """
      curl -sS http://index.internal/simple/a http://index.internal/simple/b http://index.internal/simple/b
      curl -sS http://index.internal/other
      printf 'echo me' | timeout 5 bash -c 'exec 3<>/dev/tcp/raw.internal/7; cat >&3; head -c 7 <&3'; echo
      """
    let (record, text, ledger) = try await house.run(script, grants: ["index", "raw"])
    #expect(record["outcome"] == .string("succeeded") && text.contains("echo me"), "\(text)")
    let job = try #require(record["job"])
    #expect(ledger.count { $0["decision"] == .string("allowed") } == 4)
    #expect(ledger.count { $0["decision"] == .string("denied") } == 1)

    func simulate(_ document: JSONValue, _ options: String...) async throws -> Tool.Answer {
      try await boss.run(
        ["policy", "simulate", "--since", "1h"] + options + ["-"], stdin: Array(try JSONEncoder().encode(document)))
    }
    func part(_ text: String) throws -> JSONValue { try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)) }
    var whole = try #require(try await boss.run(["policy", "show", "--json"]).json()["document"]?.object)
    let same = try await simulate(.object(whole), "--json")
    #expect(same.status == 0, "\(same.stderr)")
    let looked = try same.json()["egress"]
    #expect(looked?["lines"] == .integer(Int64(ledger.count)) && looked?["attempts"] == .integer(1))
    for kind in ["would_be_denied", "would_be_allowed", "cannot_be_told"] { #expect(looked?[kind] == .array([])) }

    let narrow = try part(
      #"{"version": 1, "grants": {"index": {"allow": ["GET /simple/b"]}, "raw": {}}, "filesystem": {"tmp": "noexec"}}"#)
    let narrower = try await simulate(narrow, "--json", "--tenant", "local")
    #expect(narrower.status == 1, "\(narrower.stderr)")
    let denied = try #require(try narrower.json()["egress"]?["would_be_denied"]?.array)
    #expect(denied.count == 1)
    #expect(denied.first?["rule"] == .string(#"grant "index" allows nothing"#))
    #expect(denied.first?["lines"] == .integer(3) && denied.first?["example"] == job)
    #expect(try narrower.json()["would_lose"]?.array?.first?["member"] == .string("filesystem.tmp"))
    let table = try await simulate(narrow, "--tenant", "local")
    #expect(table.status == 1 && table.stderr.contains("3 would have been denied, 0 allowed"), "\(table.stderr)")
    #expect(table.text.contains("filesystem.tmp: exec") && table.text.contains("GET /simple/"), "\(table.text)")
    let elsewhere = try await simulate(narrow, "--json", "--tenant", "nobody")
    #expect(elsewhere.status == 0, "\(elsewhere.stderr)")
    #expect(try elsewhere.json()["egress"]?["lines"] == .integer(0))

    whole["grants"] = try part(
      Self.grants(upstream.network).replacing("GET /simple/*", with: "GET /**").replacing(
        #""port": 7"#, with: #""port": 8"#))
    let wider = try await simulate(.object(whole), "--json")
    #expect(wider.status == 1, "\(wider.stderr)")
    let other = try wider.json()["egress"]
    #expect(other?["would_be_allowed"]?.array?.map { $0["lines"] } == [.integer(1)], "\(other ?? .null)")
    #expect(other?["would_be_denied"]?.array?.map { $0["grant"] } == [.string("raw")])
    let cut = try await simulate(.object(whole), "--json", "--egress-limit", "1")
    #expect(try cut.json()["egress"]?["more"] == .bool(true))

    // Nothing was bound by all that; now it is.
    let probe = "cp /usr/bin/true /tmp/t && if /tmp/t 2> /dev/null; then echo ran; else echo refused; fi"
    #expect(try await house.run(probe, grants: []).text == "ran\n")
    let written = """
      version: 1
      grants:
        # One package is enough.
        index:
          allow: ["GET /simple/b"]
        raw: {}
      filesystem: {tmp: noexec}
      """
    let bound = try await boss.run(["policy", "bind", "--tenant", "local", "-"], stdin: Array(written.utf8))
    #expect(bound.status == 0, "\(bound.stderr)")
    // Which line of which document took the route away, and which left the rest.
    let explained = try await boss.run(["policy", "explain", "--tenant", "local"]).text.split(separator: "\n")
    func decided(_ member: String, _ scope: String, _ line: Int) -> Bool {
      explained.contains { $0.hasPrefix("\(member) ") && $0.contains(scope) && $0.hasSuffix(" \(line)") }
    }
    #expect(decided("grants.index.allow", "tenant local", 5), "\(explained)")
    #expect(decided("filesystem.tmp", "tenant local", 7), "\(explained)")
    #expect(decided("grants.index.port", "ceiling", 1), "\(explained)")
    #expect(try await house.run(probe, grants: []).text == "refused\n")
    let again = try await house.run("curl -sS http://index.internal/simple/a", grants: ["index"])
    #expect(again.text.contains("allows nothing"), "\(again.text)")
    try await house.close()
  }
}
