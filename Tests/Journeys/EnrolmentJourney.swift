import Foundation
import Jobs
import Postgres
import TestKit
import Testing

/// A worker that is invited, serves, renews, and is thrown out; by a server that asks tokens and workers for passwords.
@Suite("Journey: a worker that enrols", .serialized)
struct EnrolmentJourney {
  /// A house with a queue that its own worker does not serve.
  private struct Place {
    let house: House
    var tool: Tool { house.tool }

    init(options: [String] = []) async throws {
      house = try await House(slots: 1, options: options)
      let cluster = house.directory.appending(path: "postgres")
      let files = FileManager.default.enumerator(at: cluster, includingPropertiesForKeys: nil)
      guard let rules = files?.compactMap({ $0 as? URL }).first(where: { $0.lastPathComponent == "pg_hba.conf" }) else {
        throw Problem("the server has no pg_hba.conf")
      }
      let passwords = """
        local all +cordon_joiner scram-sha-256
        local all postgres,cordon_local,cordon_local_worker trust
        local all +cordon_worker scram-sha-256
        local all all reject

        """
      // In its place, so that it stays the server's own.
      let handle = try FileHandle(forWritingTo: rules)
      try handle.truncate(atOffset: 0)
      try handle.write(contentsOf: Data(passwords.utf8))
      try handle.close()
      try await run("select pg_reload_conf()")
      let created = try await tool.run(["queue", "add", "fleet"])
      guard created.status == 0 else { throw Problem(created.stderr) }
    }

    func run(_ sql: String) async throws {
      let pool = Pool(ConnectionSettings(house.superuser), maximum: 1)
      try await pool.query(Statement(name: "", sql: sql))
      await pool.close()
    }

    func path(_ name: String) -> String { house.directory.path + "/" + name }

    func invite(_ name: String, life: Double) async throws -> Tool.Answer {
      try await tool.run([
        "workers", "invite", "--queue", "fleet", "--life", "\(Int(life * patience))s", "--out", path(name),
      ])
    }

    func worker(
      _ name: String, token: String?, identity: String, options: [String] = []
    ) throws -> RunningTool {
      try tool.start(
        [
          "worker", "--data", path("data-" + name), "--queue", "fleet", "--slots", "1", "--lease", "3s", "--name", name,
          "--identity", path(identity),
        ] + (token.map { ["--join", path($0)] } ?? []) + options)
    }

    func member(_ member: String, of name: String) throws -> JSONValue? {
      try JSONDecoder().decode(JSONValue.self, from: try Data(contentsOf: URL(fileURLWithPath: path(name))))[member]
    }

    func identity(_ name: String) throws -> (role: String, password: String) {
      let file = try JSONDecoder().decode(JSONValue.self, from: try Data(contentsOf: URL(fileURLWithPath: path(name))))
      guard let role = file["role"]?.string, let password = file["password"]?.string else {
        throw Problem("no identity")
      }
      return (role, password)
    }

    /// The SQLSTATE that a login is refused with; nil where it is let in.
    func refusal(_ identity: (role: String, password: String)) async throws -> String? {
      let login = ConnectionSettings.Login(user: identity.role, password: identity.password)
      do {
        let connection = try await Connection.connect(ConnectionSettings(tool.url, login: { login }))
        await connection.close()
        return nil
      } catch { return error.sqlState ?? "\(error)" }
    }

    func invitation() async throws -> JSONValue? {
      try await tool.run(["workers", "invitations", "--json"]).json().array?.first
    }

    func wait(_ what: String, _ condition: () async throws -> Bool) async throws {
      let end = ContinuousClock.now + Duration.seconds(90).patiently
      while try await !condition() {
        guard ContinuousClock.now < end else { throw Problem("it never came: \(what)") }
        try await Task.sleep(for: .milliseconds(100))
      }
    }
  }

  /// CR-07, QU-07.
  @Test("invited, it serves and renews; revoked, its job is others', and nothing of it is let in again")
  func life() async throws {
    let place = try await Place()
    let tool = place.tool
    let made = try await place.invite("token", life: 20)
    #expect(made.status == 0 && made.text.isEmpty && made.stderr.contains("queue fleet"), "\(made.stderr)")
    let token = try String(contentsOfFile: place.path("token"), encoding: .utf8)
    #expect(token.hasPrefix("cordon-join_"))
    #expect(
      try FileManager.default.attributesOfItem(atPath: place.path("token"))[.posixPermissions] as? Int == 0o600)
    // The directory is not there yet, as on a host that has had no worker.
    let worker = try place.worker("rack-7", token: "token", identity: "kept/identity")
    let job = try await tool.enqueue(["--queue", "fleet", "--", "/usr/bin/true"])
    let record = try await tool.wait(for: job, limit: .seconds(90)) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"), "\(record) \(worker.stderr)")
    let first = try place.identity("kept/identity")
    #expect(record["attribution"]?["worker"]?["name"] == .string("rack-7") || "\(record)".contains("rack-7"))
    #expect(try await place.refusal((first.role, "wrong")) == "28P01", "control: passwords are asked for")

    // Renewed, while a job runs in it.
    let mark = "9\(Int.random(in: 10_000...99_999)).25"
    let running = try await tool.enqueue(["--queue", "fleet", "--", "/usr/bin/sleep", mark])
    _ = try await tool.wait(for: running) { $0["state"] == .string("running") }
    try await place.wait("a renewal") { try place.identity("kept/identity").password != first.password }
    let second = try place.identity("kept/identity")
    try await place.wait("its confirmation") { try await place.refusal(second) == nil }
    #expect(try await place.refusal(first) == "28P01", "the password before it is none any more")
    try await place.wait("another") { try place.identity("kept/identity").password != second.password }
    #expect(try await tool.show(running)["state"] == .string("running"))
    #expect((try await place.invitation()?["renewals"]?.integer ?? 0) >= 2)
    let shown = try await tool.run(["workers", "--json"]).json().array?.first { $0["name"] == .string("rack-7") }
    #expect(shown?["enrolled"] == .bool(true) && shown?["role"] == .string(first.role), "\(String(describing: shown))")

    let begin = ContinuousClock.now
    let revoked = try await tool.run(["revoke", "worker", "rack-7", "--mode", "kill", "--reason", "stolen"])
    #expect(revoked.status == 0 && revoked.text.contains("1 ended"), "\(revoked.stderr)")
    let answer = try await worker.answer(limit: .seconds(60))
    print("a revoked worker was gone after \(ContinuousClock.now - begin)")
    #expect(answer.status == 3 && answer.stderr.contains("cordon: "), "\(answer.stderr)")
    // Long before it is due to renew, whose answer would say it too.
    #expect(ContinuousClock.now - begin < .seconds(4 * patience))
    let lost = try await tool.show(running)
    #expect(lost["state"] == .string("queued"))
    #expect(lost["attempts"]?.array?.first?["outcome"] == .string("lost"))
    #expect(lost["attempts"]?.array?.first?["reason"] == .string("revoked: stolen"))
    #expect(try await place.refusal(try place.identity("kept/identity")) == "28000")

    // Neither its identity nor its token is good again, not even when the revocation is lifted.
    for lifted in [false, true] {
      if lifted { #expect(try await tool.run(["revocations", "lift", "worker", "rack-7"]).status == 0) }
      let again = try await place.worker("rack-7", token: nil, identity: "kept/identity").answer()
      #expect(again.status == 3 && again.stderr.contains("fix: cordon workers invite"), "\(again.stderr)")
      let other = try await place.worker("rack-8", token: "token", identity: "other").answer()
      #expect(other.status == 4 && other.stderr.contains("enrols nobody"), "\(other.stderr)")
    }
    // Another token is.
    #expect(try await place.invite("token-2", life: 600).status == 0)
    let next = try place.worker("rack-7", token: "token-2", identity: "identity-2")
    _ = try await tool.wait(for: running, limit: .seconds(90)) { $0["state"] == .string("running") }
    #expect(try await tool.run(["cancel", running]).status == 0)
    next.signal(SIGTERM)
    #expect(try await next.answer().status == 0, "\(next.stderr)")
    try await place.house.close()
  }

  @Test("one that slept through its life is let in no more, and others have its job")
  func asleep() async throws {
    let place = try await Place(options: ["--queue", "default"])
    let tool = place.tool
    #expect(try await place.invite("token", life: 8).status == 0)
    let worker = try place.worker("sleeper", token: "token", identity: "identity")
    let job = try await tool.enqueue(["--queue", "fleet", "--", "/usr/bin/sleep", "600"])
    _ = try await tool.wait(for: job, limit: .seconds(90)) { $0["state"] == .string("running") }
    worker.signal(SIGSTOP)
    try await place.wait("its end") { try await place.invitation()?["worker_state"] == .string("expired") }
    // The house's worker looks after it.
    let record = try await tool.wait(for: job, limit: .seconds(90)) { $0["state"] == .string("queued") }
    #expect(record["attempts"]?.array?.first?["reason"] == .string("worker gone"))
    worker.signal(SIGCONT)
    let answer = try await worker.answer(limit: .seconds(60))
    #expect(answer.status == 3, "\(answer.stderr)")
    #expect(
      answer.stderr.contains("has expired") || answer.stderr.contains("lets this worker in no more"), "\(answer.stderr)"
    )
    try await place.house.close()
  }

  @Test("an identity that is over while its worker still looks at its host makes the process fail, as later")
  func overBeforeItServes() async throws {
    let place = try await Place()
    #expect(try await place.invite("token", life: 12).status == 0)
    // Its host is looked at once the database has refused a renewal.
    let go = place.path("go")
    let warden = try buildProduct(named: "cordon-warden")
    let script = "#!/bin/sh\nuntil [ -e \(go) ]; do sleep 0.1; done\nexec \(warden) \"$@\"\n"
    try Data(script.utf8).write(to: URL(fileURLWithPath: place.path("warden")))
    chmod(place.path("warden"), 0o755)
    let worker = try place.worker(
      "rack-7", token: "token", identity: "identity", options: ["--warden", place.path("warden")])
    try await place.wait("an identity") {
      guard FileManager.default.fileExists(atPath: place.path("identity")) else { return false }
      return try place.member("isEnrolled", of: "identity") == .bool(true)
    }
    let role = try place.identity("identity").role
    try await place.run("update cordon.principal set expires_at = clock_timestamp() where role = '\(role)'")
    try await place.wait("a renewal") { try place.member("next", of: "identity")?.string != nil }
    try Data().write(to: URL(fileURLWithPath: go))
    let answer = try await worker.answer()
    #expect(answer.status == 3 && answer.stderr.contains("has expired"), "\(answer.status) \(answer.stderr)")
    try await place.house.close()
  }

  @Test("a token that cannot be written down is good for nobody")
  func unwritten() async throws {
    let place = try await Place()
    let missing = try await place.invite("missing/token", life: 600)
    #expect(missing.status == 3 && missing.stderr.contains("missing/token"), "\(missing.stderr)")
    #expect(try await place.invitation() == nil, "none was made")
    // A disk with a page, which is full.
    let disk = place.path("disk")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
    #expect(mount("tmpfs", disk, "tmpfs", 0, "size=4k") == 0)
    defer { umount2(disk, Int32(MNT_DETACH)) }
    try Data(count: 4_096).write(to: URL(fileURLWithPath: disk + "/full"))
    let full = try await place.invite("disk/token", life: 600)
    #expect(full.status == 3 && full.stderr.contains("No space left"), "\(full.stderr)")
    #expect(!FileManager.default.fileExists(atPath: disk + "/token"))
    #expect(try await place.invitation()?["state"] == .string("withdrawn"))
    umount2(disk, Int32(MNT_DETACH))
    try await place.house.close()
  }

  /// What a worker's file says where it died between two steps: of what it has asked for it has heard no answer.
  private enum Memory: CaseIterable {
    case none, enrolmentUnheard, renewalUnheard

    func damage(_ file: inout [String: JSONValue]) {
      switch self {
      case .none: break
      case .enrolmentUnheard: file["isEnrolled"] = .bool(false)
      case .renewalUnheard:
        file["next"] = file["password"]
        file["password"] = .string(String(repeating: "a", count: 43))
      }
    }
  }

  @Test("one that did not hear that it was enrolled, or renewed, comes in by the same files")
  func unheard() async throws {
    let place = try await Place()
    let tool = place.tool
    #expect(try await place.invite("token", life: 600).status == 0)
    for memory in Memory.allCases {
      let file = URL(fileURLWithPath: place.path("identity"))
      if memory != .none {
        var identity = try #require(
          try JSONDecoder().decode(JSONValue.self, from: try Data(contentsOf: file)).object)
        memory.damage(&identity)
        let handle = try FileHandle(forWritingTo: file)
        try handle.truncate(atOffset: 0)
        try handle.write(contentsOf: try JSONEncoder().encode(JSONValue.object(identity)))
        try handle.close()
      }
      let worker = try place.worker("rack-7", token: "token", identity: "identity")
      let job = try await tool.enqueue(["--queue", "fleet", "--", "/usr/bin/true"])
      _ = try await tool.wait(for: job, limit: .seconds(90)) { $0["state"] == .string("finished") }
      // Another one of the same files is refused while it runs.
      let second = try await place.worker("rack-8", token: "token", identity: "identity").answer()
      #expect(second.status == 3 && second.stderr.contains("is held by another process"), "\(second.stderr)")
      worker.signal(SIGTERM)
      #expect(try await worker.answer().status == 0, "\(worker.stderr)")
    }
    #expect(try await place.tool.run(["workers", "invitations", "--json"]).json().array?.count == 1)
    // A token that nobody used is taken back.
    let open = try await tool.run(["workers", "invite", "--json"]).json()
    let role = try #require(open["role"]?.string)
    #expect(open["token"]?.string?.hasPrefix("cordon-join_") == true)
    #expect(try await tool.run(["workers", "withdraw", role]).status == 0)
    #expect(try await place.invitation()?["state"] == .string("withdrawn"))
    try await place.house.close()
  }
}
