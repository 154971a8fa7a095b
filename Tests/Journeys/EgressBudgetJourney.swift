import Foundation
import Jobs
import Postgres
import TestKit
import Testing

/// What a principal's jobs may send in a day, through the real binary: the queue, two workers, and the ledger of what was denied.
@Suite("Journey: a principal's egress of a day", .serialized)
struct EgressBudgetJourney {
  private static let agent = "cordon_local"
  /// Sent with each request, beside some bytes of its own.
  private static let path = String(repeating: "x", count: 1_000)

  private static func limit(_ house: House, _ bytes: String) async throws {
    let answer = try await Tool(url: house.superuser).run(
      ["principals", "limit", agent, "--kind", "agent", "--egress-bytes-per-day", bytes])
    guard answer.status == 0 else { throw Problem(answer.stderr) }
  }

  private static func shown(_ house: House) async throws -> JSONValue? {
    try await Tool(url: house.superuser).run(["principals", "--json"]).json().array?
      .first { $0["role"]?.string == agent }
  }

  @Test(
    "a running job is denied what is beyond it, with its line; then the queue takes no job with grants, until there is more"
  )
  func spent() async throws {
    let upstream = try Upstream()
    let house = try await House(
      slots: 2, options: ["--egress-trust", upstream.path("ca.pem")], through: upstream.through)
    try await house.grant(
      """
      {"plain": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /**"],
         "allow_private": ["\(upstream.network).0/24"]},
       "raw": {"host": "raw.internal", "port": 7, "mode": "tcp", "allow_private": ["\(upstream.network).0/24"]}}
      """)
    try await Self.limit(house, "64KiB")
    // A tunnel that takes most of it and stays open, then requests of a kilobyte until there is nothing left.
    let script = """
      exec 3<>/dev/tcp/raw.internal/7
      head -c 60000 /dev/zero >&3 & head -c 60000 <&3 | wc -c
      for n in $(seq 50); do
        code=$(curl -sS -o /tmp/answer -w '%{http_code}' http://index.internal/\(Self.path))
        [ $code = 200 ] || break
      done
      echo $code $((n > 2 && n < 8)); grep -c 'has used its egress of the day' /tmp/answer
      printf more >&3; timeout 20 head -c 4 <&3 2>&1 | grep -c more || true
      """
    let (record, text, ledger) = try await house.run(script, grants: ["plain", "raw"], limit: .seconds(60))
    #expect(record["outcome"] == .string("succeeded"), "\(record)")
    #expect(text == "60000\n403 1\n1\n0\n", "\(text)")
    let rule = #"principal "cordon_local" has used its egress of the day"#
    #expect(ledger.contains { $0["decision"]?.string == "denied" && $0["rule"]?.string == rule }, "\(ledger)")
    #expect(
      ledger.contains {
        $0["decision"]?.string == "closed" && $0["grant"]?.string == "raw" && $0["rule"]?.string == rule
      })
    let shown = try await Self.shown(house)
    #expect(
      shown?["state"]?.string == "spent" && shown?["egress_bytes_this_day"] == .integer(65_536), "\(shown ?? .null)")
    #expect((shown?["received_bytes_this_day"]?.integer ?? 0) > 0)
    let table = try await Tool(url: house.superuser).run(["principals"]).text
    #expect(table.contains("EGRESS/DAY") && table.contains("65536"), "\(table)")

    let refused = try await house.tool.run(["enqueue", "--grant", "plain", "--", "/usr/bin/true"])
    #expect(refused.status == 4 && refused.stderr.contains("has used its 65536 bytes of egress a day"), "\(refused)")
    let (without, _) = try await house.tool.record(of: ["--", "/usr/bin/true"])
    #expect(without["outcome"] == .string("succeeded"))
    try await Self.limit(house, "1MiB")
    let (more, said, _) = try await house.run(
      "curl -sS -o /dev/null -w '%{http_code}' http://index.internal/x", grants: ["plain"])
    #expect(more["outcome"] == .string("succeeded") && said == "200", "\(said)")
    try await house.close()
  }

  @Test("where what is sent cannot be counted, a narrower policy cuts all the same")
  func uncounted() async throws {
    let upstream = try Upstream()
    let house = try await House(
      slots: 1, options: ["--egress-trust", upstream.path("ca.pem")], through: upstream.through)
    try await house.grant(
      """
      {"raw": {"host": "raw.internal", "port": 7, "mode": "tcp", "allow_private": ["\(upstream.network).0/24"]}}
      """)
    try await Self.limit(house, "64MiB")
    let marker = Marker()
    // It sends all the time, and goes on to sleep when it is cut.
    let script = """
      exec 3<>/dev/tcp/raw.internal/7
      while printf x && sleep 0.1; do :; done >&3 2>/dev/null &
      cat <&3 >/dev/null 2>&1; exec sleep \(marker.text)
      """
    let job = try await house.enqueue(script, grants: ["raw"], options: ["--timeout", "5m"])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("running") }
    let boss = try await Connection.connect(ConnectionSettings(house.superuser))
    try await boss.execute(script: "begin; lock table cordon.spending in exclusive mode")
    let other = try await Connecting(house.superuser)
    var waiting: Int32 = 0
    for _ in 0..<200 where waiting == 0 {
      waiting = try await other.column("select count(*)::int from pg_locks where not granted").first ?? 0
      try await Task.sleep(for: .milliseconds(100))
    }
    #expect(waiting > 0, "control: a report waits")
    #expect(!marker.exists, "control: it sends")
    try await house.grant("{}")
    try await eventually("it is cut", limit: .seconds(5)) { marker.exists }
    try await boss.execute(script: "rollback")
    await boss.close()
    _ = try await house.tool.run(["cancel", job])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
    try await house.close()
  }

  @Test("an attempt that ends while the database is away has its last lines in the ledger, and what it sent counted")
  func away() async throws {
    let upstream = try Upstream()
    let house = try await House(
      slots: 1, options: ["--egress-trust", upstream.path("ca.pem")], through: upstream.through)
    try await house.grant(
      """
      {"raw": {"host": "raw.internal", "port": 7, "mode": "tcp", "allow_private": ["\(upstream.network).0/24"]}}
      """)
    try await Self.limit(house, "64MiB")
    let marker = Marker()
    let script = """
      exec 3<>/dev/tcp/raw.internal/7; sleep \(marker.text) &
      sleep 3; printf hello >&3; head -c 5 <&3; kill %1
      """
    let job = try await house.enqueue(script, grants: ["raw"], options: ["--timeout", "5m"])
    try await eventually("it is connected", limit: .seconds(30)) { marker.exists }
    let boss = try await Connecting(house.superuser)
    try await boss.run("alter role cordon_local_worker connection limit 0")
    _ = try await boss.column(
      "select count(pg_terminate_backend(pid))::int from pg_stat_activity where usename = 'cordon_local_worker'")
    try await eventually("the job has ended") { !marker.exists }
    // Long enough for tries that fail, and shorter than the lease.
    try await Task.sleep(for: .seconds(4))
    try await boss.run("alter role cordon_local_worker connection limit -1")
    let (record, text, ledger) = try await house.end(of: job, limit: .seconds(60))
    #expect(record["outcome"] == .string("succeeded") && text == "hello", "\(record) \(text)")
    #expect(ledger.last?["decision"]?.string == "closed" && ledger.last?["sent"] == .integer(5), "\(ledger)")
    #expect(try await Self.shown(house)?["egress_bytes_this_day"] == .integer(5))
    try await house.close()
  }

  @Test("jobs of one principal on two workers pass its budget by no more than one sends between two heartbeats")
  func twoWorkers() async throws {
    let upstream = try Upstream()
    let options = ["--egress-trust", upstream.path("ca.pem")]
    let house = try await House(slots: 1, options: options, through: upstream.through)
    let second = try RunningTool(
      [
        "worker", "--data", house.directory.path + "/second", "--slots", "1", "--queue", "default", "--database",
        house.worker,
      ]
        + options, environment: ProcessInfo.processInfo.environment, through: upstream.through)
    try await house.grant(
      """
      {"plain": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /**"],
         "allow_private": ["\(upstream.network).0/24"], "most": {"sent": "64MiB", "requests": 100000}}}
      """)
    let budget = 400_000
    try await Self.limit(house, "\(budget)")
    // Each sends a kilobyte 20 times a second at most, until it is denied.
    let script = """
      for n in $(seq 1 1000); do
        [ "$(curl -sS -o /dev/null -w '%{http_code}' http://index.internal/\(Self.path))" = 200 ] || break
        sleep 0.05
      done
      """
    // Else the first would have sent all of it alone.
    var serving = 0
    for _ in 0..<600 where serving < 2 {
      serving = try await Tool(url: house.superuser).run(["workers", "--json"]).json().array?.count ?? 0
      if serving < 2 { try await Task.sleep(for: .milliseconds(100)) }
    }
    #expect(serving == 2, "\(second.stderr)")
    var jobs: [String] = []
    for _ in 0..<2 { jobs.append(try await house.enqueue(script, grants: ["plain"], options: ["--timeout", "5m"])) }
    var sent: [Int64] = []
    var workers: Set<String> = []
    for job in jobs {
      let (record, text, ledger) = try await house.end(of: job, limit: .seconds(200))
      #expect(record["outcome"] == .string("succeeded"), "\(record) \(text)")
      workers.insert(record["attribution"]?["worker"]?.string ?? "")
      #expect(
        ledger.contains { $0["rule"]?.string == #"principal "cordon_local" has used its egress of the day"# })
      sent.append(ledger.reduce(0) { $0 + ($1["sent"]?.integer ?? 0) })
    }
    #expect(workers.count == 2, "\(workers): one had both, and so the bound is not tried")
    let total = sent.reduce(0, +)
    print("two workers sent \(sent) of \(budget) bytes")
    // A request is some 1200 bytes, and 20 of them a second are the most; a heartbeat is due each second, and a late one is awaited.
    #expect(total > Int64(budget) - 4_000 && total < Int64(budget) + Int64(1_300 * 20 * 10 * patience))
    second.signal(SIGTERM)
    _ = try await second.answer(limit: .seconds(60))
    try await house.close()
  }
}
