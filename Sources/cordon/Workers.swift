import ArgumentParser
import Foundation
import Jobs
import Store

struct Workers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the workers the database knows, and invite others.",
    discussion: """
      An invitation is a token that one worker enrols with, once: `cordon worker --join FILE --identity FILE`. To stop
      a worker: cordon revoke worker NAME --mode kill --reason …
      """,
    subcommands: [WorkerList.self, Invite.self, Invitations.self, Withdraw.self], defaultSubcommand: WorkerList.self)
}

struct WorkerList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "The workers the database knows, newest first.",
    discussion: """
      For operators and auditors. A worker is `serving`, `silent` for longer than its lease, or `drained`: it found
      that a control no longer holds on its host, and stopped by itself for the reason shown. One that enrolled has an
      identity, which is good until the time shown unless it is renewed.
      """)

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.workers(), json: json,
        columns: [
          ("WORKER", "worker"), ("NAME", "name"), ("HOST", "host"), ("STATE", "state"), ("QUEUES", "queues"),
          ("RUNNING", "running"), ("SLOTS", "slots"), ("MISSING", "missing"), ("OFFERS", "offers"),
          ("SEEN", "seen_at"), ("ENROLLED", "enrolled"), ("GOOD UNTIL", "identity_expires_at"),
          ("REASON", "drained_reason"),
        ])
    }
  }
}
