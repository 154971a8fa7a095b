import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journeys: workers that come, go and die", .serialized)
struct FleetJourneys {
  @Test("a running job is cancelled within two seconds, a queued one at once")
  func cancel() async throws {
    let tool = try await House.shared.value.tool
    let job = try await tool.enqueue(["--runtime", "bash", "--code", "trap '' TERM; sleep 60 & wait; sleep 60"])
    _ = try await tool.wait(for: job) { $0["state"] == .string("running") }
    #expect(try await tool.run(["cancel", job]).text == "cancelling\n")
    let asked = Date()
    let record = try await tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("cancelled"))
    // The signal arrives within two seconds; a job that ignores it has its grace on top.
    #expect(try time(ofRecord: record["finished_at"]).timeIntervalSince(asked) < (2 + 2 + 1) * patience)

    let later = try await tool.enqueue(["--at", "2099-01-01T00:00:00Z", "--", "/usr/bin/true"])
    #expect(try await tool.show(later)["state"] == .string("scheduled"))
    #expect(try await tool.run(["cancel", later]).text == "cancelled\n")
    #expect(try await tool.show(later)["outcome"] == .string("cancelled"))
    #expect(try await tool.run(["cancel", later]).text == "finished\n")
  }

  @Test("fifty jobs on four slots: all end, never more than four at once")
  func fifty() async throws {
    let tool = try await House.shared.value.tool
    var jobs: [String] = []
    var most = 0
    for number in 1...50 {
      // On a busy machine the short ones are over before a look, and all before the last one is in.
      let isLooked = number.isMultiple(of: 10)
      jobs.append(try await tool.enqueue(["--", "/usr/bin/sleep", isLooked ? "3" : "0.2"]))
      if isLooked { most = max(most, try await count("running", tool)) }
    }
    let end = ContinuousClock.now + Duration.seconds(120).patiently
    while ContinuousClock.now < end {
      // In this order none is missed that starts between the two.
      let queued = try await count("queued", tool)
      let running = try await count("running", tool)
      most = max(most, running)
      if queued + running == 0 { break }
    }
    #expect((1...4).contains(most))
    for job in jobs {
      let record = try await tool.show(job)
      #expect(record["outcome"] == .string("succeeded"))
      #expect(record["attempts"]?.array?.count == 1)
    }
  }

  private func count(_ state: String, _ tool: Tool) async throws -> Int {
    try await tool.run(["jobs", "--state", state, "--json", "--limit", "100"]).json().array?.count ?? 0
  }

  @Test("a worker killed with -9 mid-job: its cell dies, another worker makes attempt 2, one final record")
  func killed() async throws {
    let house = try await House(slots: 1, options: ["--lease", "2s"])
    let tool = house.tool
    let marker = Marker()
    let job = try await tool.enqueue([
      "--runtime", "bash", "--code", "[ $CORDON_ATTEMPT = 1 ] && sleep \(marker.text); echo attempt $CORDON_ATTEMPT",
    ])
    _ = try await tool.wait(for: job) { $0["state"] == .string("running") }
    try await eventually("the job's process exists") { marker.exists }

    await house.up.signal(SIGKILL)
    try await eventually("the cell died with its worker", limit: .seconds(5)) { !marker.exists }

    // PostgreSQL is its own process and still there; a second `up` adopts it.
    let second = try RunningTool(
      ["up", "--data", house.directory.path, "--slots", "1", "--lease", "6s"],
      environment: ProcessInfo.processInfo.environment)
    let record = try await tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"))
    #expect(record["attempt"] == .integer(2))
    let attempts = record["attempts"]?.array ?? []
    #expect(attempts.compactMap { $0["outcome"]?.string } == ["lost", "succeeded"])
    #expect(attempts.compactMap { $0["attempt"]?.integer } == [1, 2])
    #expect(try await tool.run(["logs", job]).text == "attempt 2\n")

    second.signal(SIGTERM)
    #expect(try await second.answer().status == 0)
    try house.stopPostgres()
    try FileManager.default.removeItem(at: house.directory)
  }

  @Test("drain: what runs finishes, what waits stays, the worker leaves with code 0")
  func drain() async throws {
    let house = try await House(slots: 1)
    let tool = house.tool
    let running = try await tool.enqueue(["--", "/usr/bin/sleep", "2"])
    _ = try await tool.wait(for: running) { $0["state"] == .string("running") }
    let waiting = try await tool.enqueue(["--", "/usr/bin/true"])
    await house.up.signal(SIGTERM)
    // PostgreSQL stops with `up`, so what was recorded is read from the next one.
    #expect(try await house.up.answer().status == 0)

    // Only a new worker takes the one that waited; a second signal gives a running job back at once.
    let again = try RunningTool(
      ["up", "--data", house.directory.path, "--slots", "1"], environment: ProcessInfo.processInfo.environment)
    _ = try await House.url(printedBy: again)
    let finished = try await tool.show(running)
    #expect(finished["outcome"] == .string("succeeded"))
    #expect(finished["attempts"]?.array?.count == 1)
    #expect(try await tool.wait(for: waiting) { $0["state"] == .string("finished") }["outcome"] == .string("succeeded"))
    let long = try await tool.enqueue(["--", "/usr/bin/sleep", "60"])
    _ = try await tool.wait(for: long) { $0["state"] == .string("running") }
    again.signal(SIGTERM)
    // Two signals that nobody has taken yet are one.
    try await eventually("it drains", limit: .seconds(30)) { again.stderr.contains("draining") }
    again.signal(SIGTERM)
    #expect(try await again.answer(limit: .seconds(15)).status == 0)
    try FileManager.default.removeItem(at: house.directory)
  }
}
