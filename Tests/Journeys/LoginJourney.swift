import Foundation
import Jobs
import TestKit
import Testing

/// A job that needs a database gets a login that exists for its attempt alone, and uses it with real psql.
@Suite("Journey: a login for one attempt", .serialized)
struct LoginJourney {
  private struct Place: Sendable {
    let town: Town
    let ledger: Town.Ledger
    let house: House

    static let shared = Task { try await Place() }

    init() async throws {
      town = try await Town()
      _ = try await town.dns()
      ledger = try await town.ledger()
      let directory = town.directory.path
      _ = FileManager.default.createFile(
        atPath: "\(directory)/admin-url", contents: Data(ledger.superuser.utf8), attributes: [.posixPermissions: 0o600])
      try """
      ledger:
        tenants: [local]
        queues: [default]
        source: {postgres_role: {admin_url_file: \(directory)/admin-url, groups: [\(Town.Ledger.reader)], connection_limit: 3}}
      """.write(toFile: "\(directory)/credentials.yaml", atomically: true, encoding: .utf8)
      house = try await House(
        slots: 2,
        options: ["--credentials", "\(directory)/credentials.yaml", "--egress-trust", town.certificates.caFile],
        through: town.place.through)
      guard var policy = try await house.tool.run(["policy", "show", "--json"]).json()["document"]?.object else {
        throw Problem("no policy")
      }
      let grants = """
        {"ledger": {"host": "\(Town.Ledger.host)", "port": 5432, "mode": "tcp", "credential": "ledger",
          "allow_private": ["\(town.block)"]}}
        """
      policy["grants"] = try JSONDecoder().decode(JSONValue.self, from: Data(grants.utf8))
      let set = try await Tool(url: house.superuser).run(
        ["policy", "set", "-"], stdin: Array(try JSONEncoder().encode(JSONValue.object(policy))))
      guard set.status == 0 else { throw Problem(set.stderr) }
    }

    func roles(_ prefix: String = "cordon_job_") async throws -> [String] {
      try await ledger.ask("select rolname from pg_roles where rolname like '\(prefix)%'")
    }
  }

  private static let ask = """
    export PGHOST=\(Town.Ledger.host) PGDATABASE=\(Town.Ledger.database) PGSSLMODE=verify-full
    psql -XAtc 'select sum(cents) from books.entry'
    psql -XAtc 'select * from public.salary' 2>&1 | grep -o 'permission denied.*'
    psql -XAtc 'select session_user' | sed 's/_[0-9].*//'
    psql -XAtc "select current_setting('is_superuser')"
    """

  @Test("real psql reads what the group may read and nothing else; when the attempt is over the login is gone")
  func reads() async throws {
    let place = try await Place.shared.value
    let (record, status) = try await place.house.tool.record(
      of: [
        "--grant", "ledger", "--runtime", "bash", "--code",
        Self.ask + "\necho $PGPASSWORD; echo $PGPASSWORD > $CORDON_OUTPUT/x; echo $PGPASSWORD | rev > $CORDON_OUTPUT/y",
      ])
    let job = try #require(record["job"]?.string)
    let text = try await place.house.tool.run(["logs", job]).text
    #expect(status == 0, "\(record) \(text)")
    #expect(
      text == "925\npermission denied for table salary\ncordon_job\noff\n[redacted:ledger]\n", "\(text)")
    #expect(try await place.roles().isEmpty)
    #expect(record["quarantined"]?.array?.map { $0["reason"]?.string } == ["secret"])
    // What a job spells in its own way is not found. It was a real one, and is none any more.
    let path = try #require(record["published"]?.string) + "/y"
    let spelled = try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
    let password = String(spelled.reversed())
    #expect(password.utf8.count >= 32 && !"\(record)".contains(password))
    let given = try await place.house.tool.run(["credentials", job, "--json"]).json().array
    #expect(given?.map { $0["credential"]?.string } == ["ledger"] && given?.first?["kind"]?.string == "login")
    #expect(given?.first?["alive"] == .bool(false) && given?.first?["ended_at"]?.string != nil)
    #expect(given?.first?["version"]?.string?.hasPrefix("cordon_job_") == true && !"\(given ?? [])".contains(password))
    let ledger = try await place.house.tool.run(["egress", job])
    #expect(ledger.status == 0 && ledger.text.contains("ledger.internal:5432"), "\(ledger.stderr)")
  }

  @Test(
    "a session that is open is ended with its attempt, and nobody logs in with what a job has carried off",
    arguments: [
      "cancel", "kill",
    ])
  func ended(_ how: String) async throws {
    let place = try await Place.shared.value
    let job = try await place.house.tool.enqueue([
      "--grant", "ledger", "--runtime", "bash", "--code",
      "export PGHOST=\(Town.Ledger.host) PGDATABASE=\(Town.Ledger.database); psql -XAtc 'select pg_sleep(60)'",
    ])
    let sessions = "select usename from pg_stat_activity where usename like 'cordon_job%'"
    var seen: [String] = []
    for _ in 0..<200 where seen.isEmpty {
      seen = try await place.ledger.ask(sessions)
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(seen.count == 1)
    let began = ContinuousClock.now
    if how == "cancel" {
      _ = try await place.house.tool.run(["cancel", job])
    } else {
      _ = try await Tool(url: place.house.superuser).run(["revoke", "job", job, "--mode", "kill", "--reason", "test"])
    }
    var left = seen
    while !left.isEmpty, ContinuousClock.now - began < .seconds(20) {
      left = try await place.ledger.ask(sessions) + place.roles()
      try await Task.sleep(for: .milliseconds(50))
    }
    print("a login ended by \(how): \(ContinuousClock.now - began)")
    #expect(left.isEmpty)
    #expect(ContinuousClock.now - began < .seconds(5 * patience))
  }

  @Test("a worker that dies leaves a login that the next one ends")
  func reaped() async throws {
    let place = try await Place.shared.value
    let directory = place.town.directory.path
    // Of an installation of its own: another one's workers would take its logins for left behind.
    let credentials = "\(directory)/second.yaml"
    try String(contentsOfFile: "\(directory)/credentials.yaml", encoding: .utf8)
      .replacing("connection_limit: 3", with: "connection_limit: 3, prefix: cordon_second_")
      .write(toFile: credentials, atomically: true, encoding: .utf8)
    let house = try await House(
      slots: 1,
      options: [
        "--lease", "2s", "--credentials", credentials, "--egress-trust",
        place.town.certificates.caFile,
      ], through: place.town.place.through)
    var policy = try #require(try await house.tool.run(["policy", "show", "--json"]).json()["document"]?.object)
    policy["grants"] = try await place.house.tool.run(["policy", "show", "--json"]).json()["document"]?["grants"]
    _ = try await Tool(url: house.superuser).run(
      ["policy", "set", "-"], stdin: Array(try JSONEncoder().encode(JSONValue.object(policy))))
    let job = try await house.tool.enqueue(["--grant", "ledger", "--runtime", "bash", "--code", "sleep 60"])
    // Its start is on record before its login is made.
    var made = 0
    for _ in 0..<200 where made == 0 {
      made = try await place.roles("cordon_second_").count
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(made == 1, "\(job)")
    _ = try await Tool(url: house.superuser).run(["queue", "add", "idle"])
    await house.up.signal(SIGKILL)
    try await Task.sleep(for: .seconds(3))
    #expect(try await place.roles("cordon_second_").count == 1, "control: nobody has ended it yet")
    let boss = Tool(url: house.superuser)
    func live() async throws -> [JSONValue] { try await boss.run(["credentials", "--json"]).json().array ?? [] }
    #expect(try await live().map { $0["version"]?.string } == place.roles("cordon_second_"))
    let next = try RunningTool(
      [
        "worker", "--data", house.directory.path + "/next", "--queue", "idle", "--lease", "2s", "--database",
        house.worker,
        "--credentials", credentials, "--egress-trust", place.town.certificates.caFile,
      ], environment: ProcessInfo.processInfo.environment, through: place.town.place.through)
    _ = next
    var left = 1
    for _ in 0..<300 where left > 0 {
      left = try await place.roles("cordon_second_").count
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(left == 0, "\(next.stderr)")
    // And whoever asks what can be used is told that it cannot.
    var alive = try await live().count
    for _ in 0..<300 where alive > 0 {
      try await Task.sleep(for: .milliseconds(50))
      alive = try await live().count
    }
    #expect(alive == 0, "\(next.stderr)")
    next.signal(SIGTERM)
    _ = try await next.answer()
    try house.stopPostgres()
  }
}
