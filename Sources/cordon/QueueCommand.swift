import ArgumentParser
import Foundation
import Jobs
import Store

struct QueueCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "queue", abstract: "List, add, pause, drain and limit queues.",
    discussion: "For operators; auditors may list.",
    subcommands: [
      QueueList.self, QueueAdd.self, QueuePause.self, QueueResume.self, QueueDrain.self, QueueLimit.self,
      LaneLimit.self, TenantLimit.self,
    ],
    defaultSubcommand: QueueList.self)
}

struct QueueList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "The queues, with what waits and runs in each.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.queues(), json: json,
        columns: [
          ("QUEUE", "queue"), ("STATE", "state"), ("QUEUED", "queued"), ("SCHEDULED", "scheduled"),
          ("BLOCKED", "blocked"), ("HELD", "held"),
          ("RUNNING", "running"), ("AT MOST", "max_running"), ("DEAD", "dead"),
        ])
    }
  }
}

struct QueueAdd: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "add", abstract: "Add a queue unless it is there.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "Letters, digits, '.', '_' and '-'.")
  var queue: String

  func run() async throws {
    try await database.withStore { store in try await store.addQueue(name: queue) }
  }
}

struct QueuePause: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Let no job of a queue start; what runs goes on.")

  @OptionGroup var database: DatabaseOptions
  @Argument var queue: String

  func run() async throws {
    try await database.withStore { store in try await store.setQueue(queue, .paused) }
  }
}

struct QueueResume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Open a queue that was paused or draining.")

  @OptionGroup var database: DatabaseOptions
  @Argument var queue: String

  func run() async throws {
    try await database.withStore { store in try await store.setQueue(queue, .open) }
  }
}

struct QueueDrain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "drain", abstract: "Take no more jobs into a queue; what waits is still run.")

  @OptionGroup var database: DatabaseOptions
  @Argument var queue: String

  func run() async throws {
    try await database.withStore { store in try await store.setQueue(queue, .draining) }
  }
}

struct QueueLimit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "limit",
    abstract: "Set how many jobs of a queue run at once, and how waiting weighs against priority.",
    discussion: "Without --running there is no limit. 0 lets none start.")

  @OptionGroup var database: DatabaseOptions
  @Argument var queue: String
  @Option(help: "At most this many at once.")
  var running: Int?
  @Option(help: "Waiting that weighs as much as one step of priority, such as 10m. Default: as it was, 10m at first.")
  var ageing: String?

  func run() async throws {
    let seconds = try ageing.map { try Self.seconds($0, option: "--ageing") }
    try await database.withStore { store in
      try await store.limitQueue(queue, maxRunning: running, ageing: seconds)
    }
  }

  static func seconds(_ text: String, option: String) throws -> Double {
    guard let span = TimeSpan(text) else {
      throw Failure(.usage, "\(option): '\(text)' is no duration; write 500ms, 30s, 5m, 2h or 7d")
    }
    return Double(span.milliseconds) / 1_000
  }
}

struct LaneLimit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "limit-lane", abstract: "Set how many jobs of one lane run at once, and how many start a second.",
    discussion: "A lane is a tenant's, or one that its producers name with --lane. Without options there is no limit.")

  @OptionGroup var database: DatabaseOptions
  @Argument var queue: String
  @Argument var tenant: String
  @Option(help: "The lane. Default: the tenant's own.")
  var lane: String?
  @Option(help: "At most this many at once.")
  var running: Int?
  @Option(help: "At most this many starts a second, on average.")
  var perSecond: Double?
  @Option(help: "At most this many starts at once after a pause. Default: one second's.")
  var burst: Double?

  func run() async throws {
    try await database.withStore { store in
      try await store.limitLane(
        queue: queue, tenant: tenant, lane: lane, maxRunning: running, perSecond: perSecond, burst: burst)
    }
  }
}

struct TenantLimit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "limit-tenant", abstract: "Set how many jobs of a tenant run at once, and its share beside others.")

  @OptionGroup var database: DatabaseOptions
  @Argument var tenant: String
  @Option(help: "At most this many at once, in all queues. Default: no limit.")
  var running: Int?
  @Option(help: "1 to 100: the tenant's share of a queue in which others wait as well.")
  var weight = 1

  func run() async throws {
    try await database.withStore { store in
      try await store.limitTenant(tenant, maxRunning: running, weight: weight)
    }
  }
}
