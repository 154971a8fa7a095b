import ArgumentParser
import Foundation
import Jobs
import Store

struct Principals: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List, add and limit those who may act, and say who acts for whom.",
    discussion: """
      A principal is a role of the database. For operators; auditors may list. To stop one with all that waits and runs:
      cordon revoke principal ROLE --mode kill --reason …
      """,
    subcommands: [
      PrincipalList.self, PrincipalAdd.self, PrincipalLimit.self, DelegationGive.self, DelegationEnd.self,
      DelegationList.self,
    ], defaultSubcommand: PrincipalList.self)
}

struct PrincipalList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "The principals, what they may and what they have used.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.principals(), json: json,
        columns: [
          ("ROLE", "role"), ("KIND", "kind"), ("TENANT", "tenant"), ("STATE", "state"), ("EXPIRES", "expires_at"),
          ("JOBS/H", "jobs_per_hour"), ("USED", "jobs_this_hour"), ("CPU S/DAY", "cpu_seconds_per_day"),
          ("USED", "cpu_seconds_this_day"), ("EGRESS/DAY", "egress_bytes_per_day"), ("USED", "egress_bytes_this_day"),
        ])
    }
  }
}

struct PrincipalAdd: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Let a role act, for a tenant or as a worker; replaces what it was let before.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "A role of the database.")
  var role: String
  @Option(
    help: "The tenant it puts jobs in for, or whose jobs it runs. Default: none; a worker then serves every tenant.")
  var tenant: String?
  @Option(name: .customLong("queue"), help: "A queue it may use; repeat for more. Default: every queue.")
  var queues: [String] = []
  @Option(help: "The most urgent priority it may ask for, 0 to 9.")
  var firstPriority = 0

  func run() async throws {
    try await database.withStore {
      try await $0.addPrincipal(
        role: role, tenant: tenant, queues: queues.isEmpty ? nil : queues, firstPriority: firstPriority)
    }
  }
}

struct PrincipalLimit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "limit", abstract: "Say what a principal is, until when, and how much it may.",
    discussion:
      "What is not named is not bounded; --kind stays what it was, and so does the end of a worker that enrolled.")

  @OptionGroup var database: DatabaseOptions
  @Argument var role: String
  @Option(help: "person, service or agent. Whoever was added is a service first.")
  var kind: Store.PrincipalKind?
  @Option(help: "When it may nothing any more, such as 2026-12-31T00:00:00Z; what waits then is held.")
  var expires: String?
  @Option(help: "Jobs it may put in within any hour.")
  var jobsPerHour: Int?
  @Option(help: "Processor seconds its jobs may use within any day.")
  var cpuSecondsPerDay: Double?
  @Option(help: "Bytes its jobs may send within any day, such as 100MiB.")
  var egressBytesPerDay: String?

  func run() async throws {
    let date = try expires.map { try expiry($0) }
    let egress = try egressBytesPerDay.map { text in
      guard let bytes = text == "0" ? 0 : ByteCount(text)?.bytes else {
        throw Failure(.usage, "--egress-bytes-per-day: '\(text)' is no size; write 100MiB, or 0")
      }
      return bytes
    }
    try await database.withStore {
      try await $0.limitPrincipal(
        role, kind: kind, expiresAt: date, jobsPerHour: jobsPerHour, cpuSecondsPerDay: cpuSecondsPerDay,
        egressBytesPerDay: egress)
    }
  }
}

/// The time that --expires names.
func expiry(_ text: String) throws -> Date {
  guard let date = try? Date(text, strategy: .iso8601) else {
    throw Failure(.usage, "--expires: '\(text)' is no time; write 2026-12-31T00:00:00Z")
  }
  return date
}

extension Store.PrincipalKind: ExpressibleByArgument {}
