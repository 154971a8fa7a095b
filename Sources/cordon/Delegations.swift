import ArgumentParser
import Store

// Subcommands of `cordon principals`: who acts for whom.

struct DelegationGive: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delegate", abstract: "Let an agent act for a person; replaces what it was let do before.",
    discussion: """
      A person says so for itself, an operator for others. Jobs of the agent may then say on whose behalf they are: cordon run
      --on-behalf-of ROLE --scope SCOPE.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "A principal of kind agent, of the person's tenant.")
  var agent: String
  @Option(
    name: .customLong("scope"), help: ArgumentHelp("What it may do; repeat for more, up to 32.", valueName: "SCOPE"))
  var scopes: [String]
  @Option(help: "Until when, such as 2026-12-31T00:00:00Z; within a year.")
  var expires: String
  @Option(help: "The person; default: the role of this session. Another is for operators.")
  var person: String?

  func run() async throws {
    let date = try expiry(expires)
    try await database.withStore {
      try await $0.delegate(to: agent, scopes: scopes, expiresAt: date, person: person)
    }
  }
}

struct DelegationEnd: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "undelegate", abstract: "Let an agent act for a person no more.",
    discussion: "Its jobs for that person are held or ended, and their tokens are inactive at once.")

  @OptionGroup var database: DatabaseOptions
  @Argument var agent: String
  @Option(help: "The person; default: the role of this session. Another is for operators.")
  var person: String?

  func run() async throws {
    let wasThere = try await database.withStore { try await $0.undelegate(agent, person: person) }
    guard wasThere else { throw Failure(.usage, "there is no delegation to '\(agent)' that could be ended") }
  }
}

struct DelegationList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delegations", abstract: "Who acts for whom; one's own, or all for operators and auditors.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.delegations(), json: json,
        columns: [
          ("PERSON", "person"), ("AGENT", "agent"), ("SCOPES", "scopes"), ("EXPIRES", "expires_at"), ("STATE", "state"),
          ("REASON", "reason"),
        ])
    }
  }
}
