import ArgumentParser
import Foundation
import Jobs
import Store

struct Maintain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Do once what workers do all the time: partitions, rescues, what is due, retention, logins that are over.",
    discussion: """
      For operators. Without a subcommand, it prints what it did. How long jobs and logs are kept is set by
      `cordon maintain keep`; nothing is dropped before that.
      """,
    subcommands: [MaintainNow.self, Keep.self, Retained.self], defaultSubcommand: MaintainNow.self)
}

struct MaintainNow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "now", abstract: "Do it once, and print what was done.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "Print {\"rescued\": …, \"dropped\": […], \"logins\": […]}.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      var rescued = 0
      while true {
        let more = try await store.rescue(limit: 1_000)
        rescued += more
        if more < 1_000 { break }
      }
      let dropped = try await store.applyRetention()
      let logins = try await store.reapLogins()
      if json {
        let value = JSONValue.object([
          "rescued": .integer(Int64(rescued)), "dropped": .array(dropped.map { .string($0) }),
          "logins": .array(logins.map { .string($0) }),
        ])
        Terminal.line(String(decoding: try JSONEncoder().encode(value), as: UTF8.self))
        return
      }
      Terminal.line("\(rescued) attempts of silent workers rescued")
      for name in dropped { Terminal.line("dropped \(name)") }
      for role in logins { Terminal.line("removed the login \(role)") }
    }
  }
}

struct Keep: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Set how long jobs with their attempts, or logs, are kept after the week they began in.",
    discussion: "A week that still holds a job that waits, runs or lies among the dead letters stays as a whole.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "jobs or logs.")
  var kind: String
  @Argument(help: "A duration of at least a day, such as 90d, or `forever`.")
  var span: String

  func run() async throws {
    guard let kind = Store.RetentionClass(rawValue: kind) else {
      throw Failure(.usage, "KIND: '\(kind)' is unknown; there are jobs, logs")
    }
    let seconds = span == "forever" ? nil : try QueueLimit.seconds(span, option: "SPAN")
    try await database.withStore { store in try await store.setRetention(kind, seconds: seconds) }
  }
}

struct Retained: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Past weeks: which are due to be dropped, and why they stay.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.retained(), json: json,
        columns: [
          ("WEEK", "week"), ("CLASS", "class"), ("KEEP DAYS", "keep_days"), ("DUE", "due"),
          ("STAYS BECAUSE", "because"),
        ])
    }
  }
}
