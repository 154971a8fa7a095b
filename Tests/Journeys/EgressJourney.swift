import Foundation
import Jobs
import TestKit
import Testing

/// A job with grants, through the real binary, to a server outside that says what it was asked. `TownJourneys` go to real services.
@Suite("Journey: what a job reaches", .serialized)
struct EgressJourney {
  /// A house whose worker finds the names of its servers, and the servers.
  private struct Place: Sendable {
    let house: House
    let upstream: Upstream

    static let shared = Task { try await Place(queue: "default") }

    init(queue: String) async throws {
      upstream = try Upstream()
      house = try await House(
        slots: 4,
        options: [
          "--lease", "6s", "--credentials", upstream.path("credentials.yaml"), "--egress-trust",
          upstream.path("ca.pem"),
        ], through: upstream.through)
      try await house.grant(grants)
    }

    var grants: String {
      """
      {"index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*", "POST /big"],
        "allow_private": ["\(upstream.network).0/24"], "credential": "index"},
       "plain": {"host": "index.internal", "port": 8443, "mode": "http", "listen": 81, "allow": ["GET /**"],
        "allow_private": ["\(upstream.network).0/24"]},
       "opaque": {"host": "other.internal", "port": 443, "mode": "opaque", "allow_private": ["\(upstream.network).0/24"]},
       "seen": {"host": "seen.internal", "port": 443, "mode": "inspect", "allow": ["GET /seen"],
        "allow_private": ["\(upstream.network).0/24"]},
       "raw": {"host": "raw.internal", "port": 7, "mode": "tcp", "allow_private": ["\(upstream.network).0/24"]},
       "private": {"host": "private.internal", "port": 443, "mode": "opaque"},
       "secret": {"host": "secret.internal", "port": 443, "mode": "http", "allow": [], "credential": "nobody"}}
      """
    }
  }

  @Test(
    "an unmodified client reaches what is granted with a credential that it never sees; all else is refused with its reason"
  )
  func granted() async throws {
    let place = try await Place.shared.value
    let script = """
      curl -sS http://index.internal/simple/x -H 'Authorization: Bearer of-the-job' -H 'Cookie: a=b'
      curl -sS http://index.internal/upload -d a=b
      curl -sS https://other.internal/hello
      curl -sS https://seen.internal/seen
      curl -sS -m 5 https://example.com/ 2>&1 | cut -c1-40
      curl -sS -m 5 http://\(place.upstream.network).1/ 2>&1 | grep -c 'unreachable\\|Could not connect\\|Failed to connect'
      curl -sS -x $CORDON_PROXY https://other.internal/proxied
      curl -sS -x $CORDON_PROXY https://example.com/ 2>&1 | grep -o 'response 403'
      printf 'echo me' | timeout 5 bash -c 'exec 3<>/dev/tcp/raw.internal/7; cat >&3; head -c 7 <&3'; echo
      env | grep -ci 'token-1234567890\\|bearer'; true
      """
    let (record, text, ledger) = try await place.house.run(script, grants: ["index", "opaque", "seen", "raw"])
    #expect(record["outcome"] == .string("succeeded"))
    #expect(
      text == """
        GET /simple/x Bearer [redacted:index] None
        {"error":"cordon: denied: grant \\"index\\" allows GET /simple/*, POST /big; POST /upload matches none"}
        GET /hello None None
        GET /seen None None
        curl: (6) Could not resolve host: exampl
        1
        GET /proxied None None
        response 403
        echo me
        0

        """)
    let decisions = ledger.map { "\($0["decision"]?.string ?? "") \($0["grant"]?.string ?? "-")" }
    #expect(decisions.count { $0 == "allowed index" } == 1 && decisions.count { $0 == "denied index" } == 1)
    #expect(decisions.count { $0 == "allowed opaque" } == 2 && decisions.count { $0 == "denied -" } == 1)
    // The job's own account went nowhere, and the credential stands nowhere on record.
    #expect(place.upstream.seen().contains("GET /simple/x Bearer token-1234567890 None"))
    let raw = try await place.house.tool.run(["egress", "--json", record["job"]?.string ?? ""]).text
    #expect(!raw.contains("token-1234567890") && !"\(record)".contains("token-1234567890"))
    let facts = record["attribution"]?["isolation"]?["egress"]
    #expect(facts?["lines"]?.integer == Int64(ledger.count) && facts?["head"] == ledger.last?["hash"])
    #expect(facts?["grants"]?.array?.compactMap(\.string) == ["index", "opaque", "seen", "raw"])
  }

  @Test("a name that leads to a private address no block was listed for is not dialled, and the ledger says so")
  func privateAddress() async throws {
    let place = try await Place.shared.value
    let (_, text, ledger) = try await place.house.run(
      "curl -sS -m 5 https://private.internal/ >/dev/null 2>&1; echo $?", grants: ["private"])
    #expect(text != "0\n")
    let denied = ledger.first { $0["decision"] == .string("denied") }
    #expect(denied?["rule"]?.string?.contains("no address of private.internal may be dialled") == true, "\(ledger)")
    #expect(!place.upstream.seen().contains("private"))
  }

  @Test("a credential that its worker has not is a refusal, before anything runs")
  func noCredential() async throws {
    let place = try await Place.shared.value
    let (record, text, _) = try await place.house.run("echo ran", grants: ["secret"])
    #expect(record["outcome"] == .string("refused") && text.isEmpty)
    #expect(record["reason"]?.string?.contains("credential 'nobody'") == true, "\(record)")
  }

  @Test("a job without grants has no network at all beside one that has")
  func none() async throws {
    let place = try await Place.shared.value
    let (record, text, ledger) = try await place.house.run(
      "curl -sS -m 5 http://index.internal/simple/x 2>&1 | cut -c1-30; (exec 3<>/dev/tcp/127.0.0.2/80) 2>&1 | grep -q ermitted && echo refused",
      grants: [])
    #expect(text == "curl: (6) Could not resolve ho\nrefused\n", "\(text)")
    #expect(ledger.isEmpty && record["attribution"]?["isolation"]?["egress"] == .null)
  }

  private static let streaming = "curl -sS -N http://index.internal:81/slow; echo ended; sleep 60"

  @Test(
    "what a kill switch or a narrower policy takes away is cut within seconds, in the middle of an answer",
    arguments: [
      "policy", "freeze", "kill", "cancel", "timeout",
    ])
  func cut(_ how: String) async throws {
    let place = try await Place.shared.value
    let (house, boss) = (place.house, Tool(url: place.house.superuser))
    let before = place.upstream.open()
    // Of a job whose time is over the grace is long: it must not go on meanwhile.
    let document = #"""
      {"runtime": "bash", "grants": ["plain"], "code": "trap '' TERM; \#(Self.streaming)",
       "limits": {"wall": "\#(how == "timeout" ? "3s" : "5m")", "grace": "\#(how == "timeout" ? "20s" : "1s")"}}
      """#
    let enqueued = try await house.tool.run(["enqueue", "--specification", "-"], stdin: Array(document.utf8))
    let job = enqueued.text.trimmingCharacters(in: .whitespacesAndNewlines)
    try await eventually("the answer is under way") { place.upstream.open() > before }
    let began = ContinuousClock.now
    switch how {
    case "policy":
      try await place.house.grant(
        place.grants.replacing(#""listen": 81, "allow": ["GET /**"]"#, with: #""listen": 81, "allow": []"#))
    case "cancel": _ = try await house.tool.run(["cancel", job])
    case "timeout": break
    default: #expect(try await boss.run(["revoke", "job", job, "--mode", how, "--reason", "test"]).status == 0)
    }
    try await eventually("the tunnel is cut", limit: .seconds(6)) { place.upstream.open() <= before }
    let took = ContinuousClock.now - began
    print("egress cut by \(how): \(took)")
    #expect(took < .seconds(3 * patience))
    if how == "freeze" { _ = try await boss.run(["revocations", "lift", "job", job]) }
    if how == "policy" { try await place.house.grant(place.grants) }
    _ = try await house.tool.run(["cancel", job])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
    let rules = try await place.house.ledger(job).compactMap { $0["rule"]?.string }
    #expect(rules.contains { $0.hasPrefix("cut: ") }, "\(rules)")
  }

  @Test("a ledger that somebody changed, or that lacks its end, is found out by whoever has it")
  func verified() async throws {
    let place = try await Place.shared.value
    let (record, _, ledger) = try await place.house.run("curl -s http://index.internal/no", grants: ["index"])
    let job = try #require(record["job"]?.string)
    #expect(ledger.count == 1)
    let whole = try await place.house.tool.run(["egress", job])
    #expect(whole.status == 0 && whole.stderr.contains("1 lines, whole") && whole.text.contains("matches none"))
    let boss = try await Connecting(place.house.superuser)
    try await boss.run(
      """
      alter table cordon.egress_line disable trigger user;
      update cordon.egress_line set line = replace(line, '403', '200') where job = '\(job)';
      alter table cordon.egress_line enable trigger user
      """)
    let changed = try await place.house.tool.run(["egress", job])
    #expect(changed.status == 1 && changed.stderr.contains("line 1: was changed"), "\(changed.stderr)")
    try await boss.run(
      """
      alter table cordon.egress_line disable trigger user;
      delete from cordon.egress_line where job = '\(job)';
      alter table cordon.egress_line enable trigger user
      """)
    let missing = try await place.house.tool.run(["egress", job])
    #expect(missing.status == 1 && missing.stderr.contains("none of its 1 lines"), "\(missing.stderr)")
  }

  @Test("a worker that does not hear its database lets no credential out any more, within ten seconds")
  func silence() async throws {
    let place = try await Place.shared.value
    let house = try await House(
      slots: 1,
      options: [
        "--lease", "60s", "--credentials", place.upstream.path("credentials.yaml"), "--egress-trust",
        place.upstream.path("ca.pem"),
      ], through: place.upstream.through)
    let silent = try Silence(of: house)
    try await house.grant(place.grants)
    let marker = "/simple/silence-\(UUID().uuidString.prefix(8).lowercased())"
    let script = "while :; do curl -s -o /dev/null http://index.internal\(marker); sleep 0.2; done"
    let job = try await house.tool.enqueue(["--grant", "index", "--runtime", "bash", "--code", script])
    func asked() -> Int { place.upstream.seen().components(separatedBy: marker).count - 1 }
    try await eventually("it asks") { asked() > 0 }
    try await silent.begin()
    defer { silent.end() }
    let began = ContinuousClock.now
    var (last, lastAt) = (asked(), began)
    while ContinuousClock.now - began < .seconds(14) {
      try await Task.sleep(for: .milliseconds(100))
      let count = asked()
      if count != last { (last, lastAt) = (count, .now) }
    }
    print("credentials stopped after \(lastAt - began) without a database")
    #expect(lastAt - began > .seconds(2), "control: it went on at first")
    #expect(lastAt - began < .seconds(10))
    silent.end()
    _ = try await house.tool.run(["cancel", job])
    try await house.close()
  }
}
