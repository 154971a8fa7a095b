import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journey: a schedule", .serialized)
struct ScheduleJourney {
  private let document = """
    {"cron": "*/2 * * * * *", "zone": "Europe/Zurich", "overlap": "queue",
     "specification": {"runtime": "bash", "code": "echo again"}}
    """

  /// Jobs of a schedule by the instant they were for, oldest first.
  private func runs(_ tool: Tool, _ name: String) async throws -> [(instant: String, job: JSONValue)] {
    let jobs = try await tool.run(["jobs", "--json", "--limit", "200"]).json().array ?? []
    return jobs.compactMap { job in
      guard job["labels"]?["schedule"]?.string == name, let at = job["labels"]?["schedule_at"]?.string else {
        return nil
      }
      return (at, job)
    }.sorted { $0.instant < $1.instant }
  }

  @Test("what is set runs again and again, each instant once, until it is paused")
  func runs() async throws {
    let tool = try await House.shared.value.tool
    let name = "tick-\(UUID().uuidString.prefix(8))"
    let set = try await tool.run(["schedules", "set", "--json", name, "-"], stdin: Array(document.utf8))
    #expect(set.status == 0, "\(set.stderr)")
    #expect(try set.json()["revision"] == .integer(1))

    let end = ContinuousClock.now + Duration.seconds(30).patiently
    var found: [(instant: String, job: JSONValue)] = []
    while ContinuousClock.now < end, found.filter({ $0.job["outcome"]?.string == "succeeded" }).count < 3 {
      try await Task.sleep(for: .milliseconds(200))
      found = try await runs(tool, name)
    }
    let paused = try await tool.run(["schedules", "pause", name])
    #expect(paused.status == 0, "\(paused.stderr)")
    found = try await runs(tool, name)
    #expect(found.count >= 3, "\(found)")
    // Every other second from the first on, none twice and none left out.
    let instants = found.compactMap { try? Date($0.instant, strategy: .iso8601).timeIntervalSince1970 }
    #expect(zip(instants, instants.dropFirst()).allSatisfy { $1 - $0 == 2 }, "\(found.map(\.instant))")
    #expect(instants.allSatisfy { $0.truncatingRemainder(dividingBy: 2) == 0 })

    let listed = try await tool.run(["schedules", "--json"]).json().array?.first { $0["schedule"]?.string == name }
    #expect(listed?["state"]?.string == "paused")
    try await Task.sleep(for: .seconds(3))
    #expect(try await runs(tool, name).count == found.count)

    let show = try await tool.run(["schedules", "show", name])
    #expect(try show.json()["fold"]?.string == "both" && show.stderr.contains("state: paused"))
    #expect(try await tool.run(["schedules", "remove", name]).status == 0)
    #expect(try await tool.run(["schedules", "show", name]).status == 2)
  }

  @Test("the coming instants are shown before anything is set")
  func next() async throws {
    // No database is there, and none is asked.
    let tool = Tool(url: "host=/nonexistent")
    let file = #"{"cron": "30 2 * * *", "zone": "Europe/Zurich", "specification": {}}"#
    let arguments = ["schedules", "next", "--file", "-", "--count", "2", "--after", "2026-03-28T12:00:00Z"]
    let answer = try await tool.run(arguments, stdin: Array(file.utf8))
    #expect(
      answer.text == """
        2026-03-29T01:00:00Z  Sun 2026-03-29T03:00:00+02:00
        2026-03-30T00:30:00Z  Mon 2026-03-30T02:30:00+02:00

        """)
    let json = try await tool.run(arguments + ["--json"], stdin: Array(file.utf8)).json()
    #expect(json == .array([.string("2026-03-29T01:00:00Z"), .string("2026-03-30T00:30:00Z")]))

    let wrong = try await tool.run(
      ["schedules", "next", "--file", "-"],
      stdin: Array(#"{"cron": "30 25 * * *", "zone": "UTC", "specification": {}}"#.utf8))
    #expect(wrong.status == 2)
    #expect(wrong.stderr == "cordon: schedule: cron: hour: 25 is out of range; use 0 to 23\n")
  }
}
