import ArgumentParser
import Foundation
import Jobs
import Store

struct ListJobs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs", abstract: "List jobs, newest first.",
    discussion: "A producer sees the jobs of its tenant, an operator or auditor all of them.")

  @OptionGroup var database: DatabaseOptions
  @Option(help: "blocked, held, scheduled, queued, running or finished.")
  var state: String?
  @Option(help: "Only this queue.")
  var queue: String?
  @Option(help: "At most this many.")
  var limit = 20
  @Flag(help: "One JSON array.")
  var json = false

  func validate() throws {
    let states = ["blocked", "held", "scheduled", "queued", "running", "finished"]
    if let state, !states.contains(state) {
      throw ValidationError("--state: '\(state)' is unknown; there are \(states.joined(separator: ", "))")
    }
    if !(1...1_000).contains(limit) { throw ValidationError("--limit: between 1 and 1000") }
  }

  func run() async throws {
    try await database.withStore { store in
      let rows = try await store.jobs(state: state, queue: queue, limit: limit)
      try Table.show(
        rows, json: json,
        columns: [
          ("JOB", "job"), ("STATE", "state"), ("OUTCOME", "outcome"), ("ATTEMPT", "attempt"), ("QUEUE", "queue"),
          ("RUNTIME", "runtime"), ("BY", "enqueued_by"), ("ENQUEUED", "enqueued_at"),
        ])
    }
  }
}
