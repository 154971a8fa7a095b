import ArgumentParser
import Foundation
import Jobs
import Schedules
import Store

struct ScheduleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schedules", abstract: "Set, list, preview, pause, resume and remove schedules.",
    discussion: """
      A schedule is a JSON document of a tenant:

        {"cron": "0 9 * * MON-FRI", "zone": "Europe/Zurich", "gap": "after", "fold": "first",
         "calendar": {"weekend": ["sat", "sun"], "holidays": ["2026-12-25"], "on_holiday": "skip"},
         "overlap": "skip", "missed": "coalesce", "queue": "default", "priority": 4,
         "specification": {"runtime": "bash", "code": "date"}}

      cron has five fields, or six with seconds first. gap (skip, after) is about wall times that a change of clocks
      leaves out, fold (first, second, both) about those that happen twice; without them an expression that matches
      every hour neither rests nor hurries. on_holiday is run, skip, next_business_day or previous_business_day.
      overlap (skip, queue, cancel_previous) is about a run that has not ended when the next is due; missed (skip,
      coalesce, {"catch_up": 3}) about instants at which no worker was there. starts and ends are instants.
      Producers set those of their tenant; operators may pause, resume and remove any with --tenant.
      """,
    subcommands: [
      ScheduleList.self, ScheduleSet.self, ScheduleShow.self, ScheduleNext.self, SchedulePause.self,
      ScheduleResume.self, ScheduleRemove.self,
    ],
    defaultSubcommand: ScheduleList.self)
}

struct ScheduleList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "The schedules you may see.",
    discussion: """
      A schedule is `active`, `paused`, `ended` (its document has no more instants), or `broken`: its document cannot
      be used until it is set anew. PROBLEM says why the last run was not enqueued.
      """)

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.schedules(), json: json,
        columns: [
          ("SCHEDULE", "schedule"), ("TENANT", "tenant"), ("STATE", "state"), ("CRON", "cron"), ("ZONE", "zone"),
          ("NEXT", "next_at"), ("LAST", "last_at"), ("JOB", "last_job"), ("SET BY", "set_by"), ("PROBLEM", "problem"),
        ])
    }
  }
}

struct ScheduleSet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set", abstract: "Make a schedule, or replace it.",
    discussion: """
      For producers. The document is judged as a whole before anything changes. Its runs are enqueued for the role that
      set it, with the rights that role has by then. Prints its revision and its first instant.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "Letters, digits, '.', '_' and '-'.")
  var name: String
  @Argument(help: "A file with the document as JSON ('-' for stdin).")
  var file: String
  @Flag(help: "Print {\"schedule\": …, \"revision\": …, \"changed\": …, \"next_at\": …}.")
  var json = false

  func run() async throws {
    let (text, document) = try readSchedule(file)
    guard let next = document.schedule.next(after: Date()) else {
      throw Failure(.usage, "schedule: has no instant to come; see `cordon schedules next --file`")
    }
    try await database.withStore { store in
      // This host's clock is not the database's: a worker computes the instant that counts.
      let (revision, changed) = try await store.setSchedule(name, document: text)
      if json {
        let answer = JSONValue.object([
          "schedule": .string(name), "revision": .integer(Int64(revision)), "changed": .bool(changed),
          "next_at": .string(next.formatted(.iso8601)),
        ])
        Terminal.line(String(decoding: try JSONEncoder().encode(answer), as: UTF8.self))
        return
      }
      Terminal.line(
        "\(name) revision \(revision)\(changed ? "" : ", unchanged"), next at "
          + document.schedule.zone.text(of: next))
    }
  }
}

struct ScheduleShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Print a schedule's document with every policy spelled out.",
    discussion: "The document goes to stdout, ready for `cordon schedules set`; what became of it to stderr.")

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var target: ScheduleTarget
  @Flag(help: "Print everything that is known as one object, with the document as it was given.")
  var json = false

  func run() async throws {
    let text = try await database.withStore { try await target.find($0) }
    if json {
      Terminal.line(text)
      return
    }
    let record = try parseRecord(text)
    for member in ["schedule", "tenant", "state", "revision", "set_by", "set_at", "next_at", "last_at", "last_job"] {
      Terminal.errorLine("\(member): \(Terminal.escape(RecordView.text(record[member])))")
    }
    if let problem = record["problem"]?.string { Terminal.errorLine("problem: \(Terminal.escape(problem))") }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    let document = record["document"] ?? .null
    Terminal.line(
      String(decoding: try encoder.encode((try? ScheduleDocument(document).json) ?? document), as: UTF8.self))
  }
}

struct SchedulePause: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Let a schedule fire no more; what runs goes on.")

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var target: ScheduleTarget

  func run() async throws {
    try await database.withStore { try await $0.pauseSchedule(target.name, tenant: target.tenant) }
  }
}

struct ScheduleResume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Let a paused schedule fire again, from now on.",
    discussion: "Instants of the pause are not caught up with, whatever the document says of missed runs.")

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var target: ScheduleTarget

  func run() async throws {
    try await database.withStore { try await $0.resumeSchedule(target.name, tenant: target.tenant) }
  }
}

struct ScheduleRemove: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "End a schedule; jobs that it has enqueued stay.")

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var target: ScheduleTarget

  func run() async throws {
    try await database.withStore { try await $0.removeSchedule(target.name, tenant: target.tenant) }
  }
}

/// A schedule by its name, and by its tenant where that is another's.
struct ScheduleTarget: ParsableArguments {
  @Argument(help: "The schedule's name.")
  var name: String
  @Option(help: "Its tenant. Default: your own.")
  var tenant: String?

  /// The schedule as JSON text.
  func find(_ store: Store) async throws -> String {
    try await findSchedule(store, name: name, tenant: tenant)
  }
}

func findSchedule(_ store: Store, name: String, tenant: String?) async throws -> String {
  let found = try await store.schedules(name: name).filter { text in
    let owner = try parseRecord(text)["tenant"]?.string
    return tenant == nil || tenant == owner
  }
  guard let text = found.first else { throw Failure(.usage, "schedule: there is no schedule '\(name)'") }
  guard found.count == 1 else {
    throw Failure(.usage, "schedule: \(found.count) tenants have a schedule '\(name)'; say which with --tenant")
  }
  return text
}

/// The document in a file, as it stands there and as it is understood.
func readSchedule(_ file: String) throws -> (text: String, document: ScheduleDocument) {
  let bytes = try readFile(file, field: "FILE")
  guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
    throw Failure(.usage, "schedule: is no UTF-8 text without NUL bytes")
  }
  return (text, try ScheduleDocument(text))
}
