import ArgumentParser
import Foundation
import Jobs
import Schedules
import Store

struct ScheduleNext: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "next", abstract: "Show the coming instants of a schedule, or of a document before it is set.",
    discussion: """
      Each line is an instant in UTC and the wall clock of the schedule's zone. A paused schedule is shown as if it were
      not. With --file no database is asked. Exit code 2 when there is no such schedule or no instant to come.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The schedule's name; left out with --file.")
  var name: String?
  @Option(help: "Its tenant. Default: your own.")
  var tenant: String?
  @Option(help: "A file with a document as JSON ('-' for stdin) instead of a name.")
  var file: String?
  @Option(help: "How many, 1 to 1000.")
  var count = 10
  @Option(help: "After this instant, such as 2026-10-01T00:00:00Z. Default: now.")
  var after: String?
  @Flag(help: "Print one JSON array of instants in UTC.")
  var json = false

  func validate() throws {
    if (name == nil) == (file == nil) { throw ValidationError("NAME: give a name or --file, one of them") }
    if !(1...1_000).contains(count) { throw ValidationError("--count: between 1 and 1000") }
  }

  func run() async throws {
    let start = try after.map { text in
      guard let date = try? Date(text, strategy: .iso8601) else {
        throw Failure(.usage, "--after: '\(text)' is no instant; use one such as 2026-10-01T00:00:00Z")
      }
      return date
    }
    let schedule = try await document().schedule
    let instants = schedule.instants(after: start ?? Date(), limit: count)
    guard !instants.isEmpty else { throw Failure(.usage, "schedule: has no instant to come") }
    if json {
      let texts = instants.map { JSONValue.string($0.formatted(.iso8601)) }
      Terminal.line(String(decoding: try JSONEncoder().encode(texts), as: UTF8.self))
      return
    }
    for instant in instants {
      Terminal.line("\(instant.formatted(.iso8601))  \(schedule.zone.text(of: instant))")
    }
  }

  private func document() async throws -> ScheduleDocument {
    if let file { return try readSchedule(file).document }
    let text = try await database.withStore { try await findSchedule($0, name: name ?? "", tenant: tenant) }
    return try ScheduleDocument(try parseRecord(text)["document"] ?? .null)
  }
}
