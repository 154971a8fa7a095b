import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@Suite("Journeys: what production does to a worker", .serialized)
struct FaultJourneys {
  /// Runs a statement as the cluster's superuser.
  private func asSuperuser(_ house: House, _ sql: String) async throws -> [Row] {
    let pool = Pool(ConnectionSettings(house.superuser), maximum: 1)
    do {
      let rows = try await pool.query(Statement(name: "fault", sql: sql), [])
      await pool.close()
      return rows
    } catch {
      await pool.close()
      throw error
    }
  }

  private static let workerSessions =
    "SELECT pid FROM pg_stat_activity WHERE usename = 'cordon_local_worker'"

  /// The parent of process `pid`, which for a session is the server itself.
  private static func parent(of pid: Int32) -> Int32? {
    let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
    let line = status?.split(separator: "\n").first { $0.hasPrefix("PPid:") }
    return line.flatMap { Int32($0.dropFirst(5).trimmingCharacters(in: .whitespaces)) }
  }

  @Test("a line a millisecond: every byte of them is stored, in order")
  func busyPrinter() async throws {
    let tool = try await House.shared.value.tool
    let code = "import time\nfor i in range(1500):\n  print(f'line {i:06}', flush=True)\n  time.sleep(0.001)"
    let answer = try await tool.run(["run", "--runtime", "python3", "--code", code])
    #expect(answer.text == (0..<1500).map { "line \(String($0 + 1_000_000).dropFirst())\n" }.joined())
  }

  @Test("a number in the parameters keeps every digit")
  func exactNumbers() async throws {
    let tool = try await House.shared.value.tool
    let numbers = #"{"a": 12345678901234567890, "b": 0.1234567890123456789}"#
    let answer = try await tool.run([
      "run", "--param", "n=\(numbers)", "--runtime", "bash", "--code",
      "cat $CORDON_PARAMS; cp $CORDON_PARAMS $CORDON_RESULT",
    ])
    for digits in ["12345678901234567890", "0.1234567890123456789"] {
      #expect(answer.text.contains(digits), "\(answer.text)")
    }
  }

  @Test("a cancelled job with a long grace is gone within the two seconds all the same")
  func longGrace() async throws {
    let tool = try await House.shared.value.tool
    let document = #"{"runtime":"bash","code":"trap '' TERM; while :; do sleep 1; done","limits":{"grace":"1m"}}"#
    let enqueued = try await tool.run(["enqueue", "--specification", "-"], stdin: Array(document.utf8))
    let job = enqueued.text.trimmingCharacters(in: .whitespacesAndNewlines)
    _ = try await tool.wait(for: job) { $0["state"] == .string("running") }
    _ = try await tool.run(["cancel", job])
    let asked = Date()
    let record = try await tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("cancelled"))
    #expect(try time(ofRecord: record["finished_at"]).timeIntervalSince(asked) < 3 * patience)
  }

  @Test("a database that hangs: the worker ends its cell after a lease, and serves again when it is back")
  func frozenDatabase() async throws {
    let house = try await House(slots: 1, options: ["--lease", "2s"])
    let marker = Marker()
    let job = try await house.tool.enqueue(["--", "sleep", marker.text])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("running") }
    try await eventually("the job runs") { marker.exists }
    let sessions = try await asSuperuser(house, Self.workerSessions).map { try $0.get("pid", as: Int32.self) }
    // Their parent first: a worker whose sessions hang opens another one, and that would be served.
    let server = try #require(sessions.first.flatMap(Self.parent))
    for process in [server] + sessions { kill(process, SIGSTOP) }
    defer { for process in sessions + [server] { kill(process, SIGCONT) } }
    try await eventually("the cell is ended by its own worker", limit: .seconds(8)) { !marker.exists }
    for process in sessions + [server] { kill(process, SIGCONT) }
    let record = try await house.tool.wait(for: job) { ($0["attempts"]?.array?.count ?? 0) >= 1 }
    #expect(record["attempts"]?.array?.first?["outcome"] == .string("lost"))
    _ = try await house.tool.run(["cancel", job])
    #expect(try await house.tool.run(["run", "--", "echo", "back"]).text == "back\n")
    try await house.close()
  }

  @Test("a database restarted in the middle: the running job still ends once")
  func restart() async throws {
    let house = try await House(slots: 2)
    let job = try await house.tool.enqueue(["--runtime", "bash", "--code", "sleep 3; echo done > $CORDON_OUTPUT/x"])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("running") }
    for _ in 0..<5 {
      _ = try await asSuperuser(house, "SELECT pg_terminate_backend(pid) FROM (\(Self.workerSessions)) s")
      try await Task.sleep(for: .milliseconds(300))
    }
    let record = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"))
    #expect(record["attempts"]?.array?.count == 1)
    try await house.close()
  }

  @Test("a worker paused past its lease: its late report is refused, its outputs are not published")
  func paused() async throws {
    let house = try await House(slots: 1, options: ["--lease", "2s"])
    let job = try await house.tool.enqueue([
      "--runtime", "bash", "--code", "[ $CORDON_ATTEMPT = 1 ] && sleep 5; echo $CORDON_ATTEMPT > $CORDON_OUTPUT/x",
    ])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("running") }
    await house.up.signal(SIGSTOP)
    let other = try RunningTool(
      ["worker", "--data", house.directory.path + "/other", "--lease", "6s", "--database", house.worker],
      environment: ProcessInfo.processInfo.environment)
    let record = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["attempt"] == .integer(2))
    await house.up.signal(SIGCONT)
    // What the paused worker still has is settled when it takes the next job.
    #expect(try await house.tool.run(["run", "--", "true"]).status == 0)
    other.signal(SIGTERM)
    #expect(try await other.answer().status == 0)
    #expect(try await house.tool.show(job)["attempts"]?.array?.count == 2)
    let mine = house.directory.path + "/artifacts/local/\(job)/1"
    try await eventually("the paused worker left no artifact") { !FileManager.default.fileExists(atPath: mine) }
    try await house.close()
  }

  @Test("killed between publishing and recording: the next worker withdraws what no record vouches for")
  func killedWhilePublishing() async throws {
    let house = try await House(slots: 1, options: ["--lease", "2s"])
    // The worker serves once this has run.
    #expect(try await house.tool.run(["run", "--", "true"]).status == 0)
    // While somebody holds this lock no attempt can be recorded.
    let holder = try await Connection.connect(ConnectionSettings(house.superuser))
    try await holder.execute(script: "BEGIN; LOCK TABLE cordon.attempt IN SHARE MODE")
    let job = try await house.tool.enqueue([
      "--runtime", "bash", "--code", "echo $CORDON_ATTEMPT > $CORDON_OUTPUT/x",
    ])
    let first = house.directory.path + "/artifacts/local/\(job)/1"
    try await eventually("the outputs are published") { FileManager.default.fileExists(atPath: first) }
    await house.up.signal(SIGKILL)
    _ = try await house.up.answer()
    _ = try await asSuperuser(house, "SELECT pg_terminate_backend(pid) FROM (\(Self.workerSessions)) s")
    try await holder.execute(script: "COMMIT")
    await holder.close()

    let second = try RunningTool(
      ["up", "--data", house.directory.path, "--slots", "1", "--lease", "6s"],
      environment: ProcessInfo.processInfo.environment)
    let record = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["attempts"]?.array?.compactMap { $0["outcome"]?.string } == ["lost", "succeeded"])
    try await eventually("attempt 1 is withdrawn") { !FileManager.default.fileExists(atPath: first) }
    #expect(FileManager.default.fileExists(atPath: record["published"]?.string ?? ""))
    second.signal(SIGTERM)
    #expect(try await second.answer().status == 0)
    try house.stopPostgres()
    try FileManager.default.removeItem(at: house.directory)
  }

  @Test("a worker that cannot publish gives back, pauses, and goes on when the directory is back")
  func brokenDirectory() async throws {
    let house = try await House(slots: 1)
    // The worker serves once this has run.
    #expect(try await house.tool.run(["run", "--", "true"]).status == 0)
    let artifacts = house.directory.path + "/artifacts"
    try FileManager.default.moveItem(atPath: artifacts, toPath: artifacts + ".aside")
    try Data().write(to: URL(fileURLWithPath: artifacts))
    let job = try await house.tool.enqueue(["--runtime", "bash", "--code", "echo x > $CORDON_OUTPUT/x"])
    try await Task.sleep(for: .seconds(3))
    let waiting = try await house.tool.show(job)
    #expect((1...3).contains(waiting["attempts"]?.array?.count ?? 0), "\(waiting)")
    try FileManager.default.removeItem(atPath: artifacts)
    try FileManager.default.moveItem(atPath: artifacts + ".aside", toPath: artifacts)
    let record = try await house.tool.wait(for: job, limit: .seconds(40)) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"))
    // What was lost says who ran it and how it was confined, too.
    let lost = try await house.tool.run(["show", "--json", "--attempt", "1", job]).json()
    #expect(lost["attribution"]?["code"]?.string?.hasPrefix("sha256:") == true)
    #expect(lost["attribution"]?["isolation"]?["filter"]?.string?.hasPrefix("sha256:") == true)
    try await house.close()
  }

  @Test("the warden killed: its cells die, the worker gives back and leaves with code 3 for its supervisor to see")
  func wardenKilled() async throws {
    let house = try await House(slots: 1)
    let marker = Marker()
    let job = try await house.tool.enqueue(["--", "sleep", marker.text])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("running") }
    try await eventually("the job runs") { marker.exists }
    let all = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }
    let parent = await house.up.process.processIdentifier
    let wardens = all.filter { pid in
      let words = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8))?.split(separator: " ") ?? []
      return words.count > 3 && words[1] == "(cordon-warden)" && words[3] == "\(parent)"
    }
    #expect(wardens.count == 1)
    for warden in wardens { kill(warden, SIGKILL) }
    try await eventually("the cell died with its warden", limit: .seconds(5)) { !marker.exists }
    #expect(try await house.up.answer().status == 3)
    let again = try RunningTool(
      ["up", "--data", house.directory.path, "--slots", "1"], environment: ProcessInfo.processInfo.environment)
    _ = try await House.url(printedBy: again)
    let record = try await house.tool.wait(for: job) { $0["attempt"]?.integer == 2 }
    #expect(record["attempts"]?.array?.first?["outcome"] == .string("lost"))
    _ = try await house.tool.run(["cancel", job])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
    again.signal(SIGTERM)
    #expect(try await again.answer().status == 0)
    try FileManager.default.removeItem(at: house.directory)
  }
}
