import ArgumentParser
import Jobs
import Store

struct DeadLetters: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dead",
    abstract: "Jobs that did not succeed: list, retry, discard; and breakers of programs that fail.",
    discussion: "Producers see and retry their tenant's jobs, operators all.",
    subcommands: [DeadList.self, DeadRetry.self, DeadDiscard.self, Breakers.self, BreakerReset.self],
    defaultSubcommand: DeadList.self)
}

struct DeadList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list", abstract: "The newest dead letters.")

  @OptionGroup var database: DatabaseOptions
  @Option(help: "Only this queue.")
  var queue: String?
  @Option(help: "At most this many.")
  var limit = 20
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.deadLetters(queue: queue, limit: limit), json: json,
        columns: [
          ("JOB", "job"), ("OUTCOME", "outcome"), ("ATTEMPTS", "attempts"), ("QUEUE", "queue"), ("BY", "enqueued_by"),
          ("ENDED", "at"), ("REASON", "reason"),
        ])
    }
  }
}

struct DeadRetry: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retry", abstract: "Enqueue a dead letter once more, and print the new job's id.",
    discussion: "The new job is judged by the policy now in force and names the old one.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String

  func run() async throws {
    let id = try jobID(job)
    try await database.withStore { store in Terminal.line(try await store.retry(id).description) }
  }
}

struct DeadDiscard: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "discard", abstract: "Take a job from the dead letters; its record stays.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String

  func run() async throws {
    let id = try jobID(job)
    try await database.withStore { store in try await store.discard(id) }
  }
}

struct Breakers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Programs whose attempts fail; while a breaker is open, its program's retries wait.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.breakers(), json: json,
        columns: [
          ("TENANT", "tenant"), ("CODE", "code"), ("FAILURES", "failures"), ("OPEN", "open"), ("UNTIL", "open_until"),
          ("LAST", "failed_at"),
        ])
    }
  }
}

struct BreakerReset: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reset-breaker", abstract: "Let a program's attempts be tried again without a pause.")

  @OptionGroup var database: DatabaseOptions
  @Argument var tenant: String
  @Argument(help: "The program's digest, sha256:…")
  var code: String

  func run() async throws {
    guard let digest = Digest(code) else {
      throw Failure(.usage, "CODE: '\(code)' is no digest; write sha256: and 64 lower-case hex digits")
    }
    try await database.withStore { store in try await store.resetBreaker(tenant: tenant, code: digest) }
  }
}
