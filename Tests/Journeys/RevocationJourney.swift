import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@Suite("Journeys: the kill switch", .serialized)
struct RevocationJourney {
  /// From the commit of a revocation to the death of the last process: the promise of `cordon revoke`.
  private let promised = 3.0

  /// Processes whose argument is `mark`, by number.
  private func alive(_ mark: String) -> Set<String> {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return Set(
      all.filter { pid in
        guard pid.allSatisfy(\.isNumber), let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else {
          return false
        }
        return line.split(separator: 0).last.map { String(decoding: $0, as: UTF8.self) } == mark
      })
  }

  @Test("two hundred cells are dead within three seconds of a kill")
  func kill() async throws {
    let cells = 200
    let house = try await House(slots: cells, options: [])
    let tool = house.tool
    // Nobody else sleeps that long.
    let mark = "7\(Int.random(in: 10_000...99_999)).25"
    var jobs: [String] = []
    for _ in 0..<cells { jobs.append(try await tool.enqueue(["--", "/usr/bin/sleep", mark])) }
    let end = ContinuousClock.now + Duration.seconds(120).patiently
    while alive(mark).count < cells, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(200)) }
    var living = alive(mark)
    #expect(living.count == cells)
    let record = try await tool.show(jobs[0])
    let policy = try #require(record["attribution"]?["policy"]?.string)

    async let asked = tool.run(["revoke", "policy", policy, "--mode", "kill", "--reason", "a rehearsal"])
    var deaths: [Date] = []
    while !living.isEmpty, ContinuousClock.now < end + .seconds(60) {
      let now = alive(mark)
      let date = Date()
      for _ in living.subtracting(now) { deaths.append(date) }
      living = now
      try await Task.sleep(for: .milliseconds(20))
    }
    let answer = try await asked
    #expect(answer.status == 0 && answer.text.contains("\(cells) ended"), "\(answer.stderr) \(answer.text)")
    #expect(deaths.count == cells)
    // The database's clock is this host's.
    let decided = try await tool.run(["revocations", "--json"]).json().array?.first?["since"]
    let since = try time(ofRecord: decided)
    let took = deaths.map { $0.timeIntervalSince(since) }.sorted()
    let slowest = took[Int(Double(cells) * 0.99) - 1]
    print("kill switch: \(cells) cells, p50 \(took[cells / 2]) s, p99 \(slowest) s, last \(took[cells - 1]) s")
    #expect(slowest <= promised * patience)
    for job in [jobs[0], jobs[cells - 1]] {
      let record = try await tool.show(job)
      #expect(record["outcome"] == .string("cancelled") && record["published"] == .null)
      #expect(record["reason"]?.string?.contains("a rehearsal") == true)
    }
    let refused = try await tool.run(["enqueue", "--", "/usr/bin/true"])
    #expect(refused.status == 4 && refused.stderr.contains("revoked"), "\(refused.stderr)")
    #expect(try await tool.run(["revocations", "lift", "policy", policy]).status == 0)
    let job = try await tool.enqueue(["--", "/usr/bin/true"])
    #expect(try await tool.wait(for: job) { $0["state"] == .string("finished") }["outcome"] == .string("succeeded"))
    try await house.close()
  }

  @Test("a worker that hears no notification sees it within its second")
  func silent() async throws {
    let house = try await House(slots: 1, options: [])
    let tool = house.tool
    let mark = "8\(Int.random(in: 10_000...99_999)).25"
    let job = try await tool.enqueue(["--", "/usr/bin/sleep", mark])
    _ = try await tool.wait(for: job) { $0["state"] == .string("running") }
    let quiet = """
      do $do$ begin execute replace(pg_get_functiondef('cordon.revoke(text, text, text, text)'::regprocedure),
        'perform pg_notify', '-- perform pg_notify'); end $do$
      """
    try await psql(house.superuser, quiet)
    #expect(alive(mark).count == 1)
    let begin = ContinuousClock.now
    #expect(try await tool.run(["revoke", "job", job, "--mode", "kill", "--reason", "quietly"]).status == 0)
    while !alive(mark).isEmpty, ContinuousClock.now - begin < .seconds(30) {
      try await Task.sleep(for: .milliseconds(20))
    }
    let took = (ContinuousClock.now - begin) / .seconds(1)
    print("kill switch without a notification: \(took) s")
    #expect(took <= promised * patience)
    try await house.close()
  }

  private func psql(_ url: String, _ sql: String) async throws {
    let pool = Pool(ConnectionSettings(url), maximum: 1)
    try await pool.query(Statement(name: "", sql: sql))
    await pool.close()
  }

  @Test("what is frozen does nothing until it is lifted, and then goes on")
  func freeze() async throws {
    let house = try await House(slots: 2, options: [])
    let tool = house.tool
    let job = try await tool.enqueue([
      "--runtime", "bash", "--code", "for i in $(seq 1 1000); do echo $i; sleep 0.05; done",
    ])
    _ = try await tool.wait(for: job) { $0["state"] == .string("running") }
    try await Task.sleep(for: .seconds(2))
    let frozen = try await tool.run(["revoke", "job", job, "--mode", "freeze", "--reason", "a look"])
    #expect(frozen.text.contains("1 frozen"), "\(frozen.stderr)")
    try await Task.sleep(for: .seconds(3))
    let before = try await tool.run(["logs", job]).stdout.count
    #expect(before > 0)
    try await Task.sleep(for: .seconds(2))
    #expect(try await tool.run(["logs", job]).stdout.count == before)
    #expect(try await tool.show(job)["state"] == .string("running"))
    #expect(try await tool.run(["revocations", "lift", "job", job]).status == 0)
    let end = ContinuousClock.now + Duration.seconds(20).patiently
    var after = before
    while after <= before, ContinuousClock.now < end {
      try await Task.sleep(for: .milliseconds(200))
      after = try await tool.run(["logs", job]).stdout.count
    }
    #expect(after > before)
    // And frozen again it can be ended.
    _ = try await tool.run(["revoke", "job", job, "--mode", "freeze", "--reason", "a look"])
    try await Task.sleep(for: .seconds(2))
    #expect(
      try await tool.run(["revoke", "job", job, "--mode", "kill", "--reason", "enough"]).text.contains("1 ended"))
    #expect(try await tool.show(job)["outcome"] == .string("cancelled"))
    try await house.close()
  }

  @Test("a worker that is revoked ends what it runs, says so, and is not let in again")
  func worker() async throws {
    let house = try await House(slots: 1, options: [])
    let tool = house.tool
    let job = try await tool.enqueue(["--", "/usr/bin/sleep", "600"])
    _ = try await tool.wait(for: job) { $0["state"] == .string("running") }
    let name = try #require(try await tool.run(["workers", "--json"]).json().array?.first?["name"]?.string)
    #expect(try await tool.run(["revoke", "worker", name, "--mode", "kill", "--reason", "stolen"]).status == 0)
    let record = try await tool.wait(for: job) { $0["state"] == .string("queued") }
    #expect(record["attempts"]?.array?.first?["outcome"] == .string("lost"))
    let answer = try await house.up.answer(limit: .seconds(60))
    #expect(answer.status == 3 && answer.stderr.contains("is revoked: stolen"), "\(answer.stderr)")
  }
}
