import ArgumentParser
import Jobs
import Policies
import Store

struct PolicyBind: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bind", abstract: "Narrow what a tenant, a queue, or a tenant in a queue may do.",
    discussion: """
      Needs a member of cordon_operator. The document has the members of a policy, all but `version` optional, and no
      `lease`: one that is absent leaves what is in force, an empty list is none. It takes the place of what was bound
      there; jobs that wait are judged again. Prints the digest.
      """)

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var scope: PolicyScope
  @Argument(help: "A file with the document as YAML or JSON ('-' for stdin).")
  var file: String
  @Flag(help: "Print {\"digest\": …}.")
  var json = false

  func run() async throws {
    try scope.require()
    let document = try readPolicy(file, as: .narrowing)
    try await database.withStore { store in
      let bound = try await store.bindPolicy(
        document.json, tenant: scope.tenant, queue: scope.queue, source: document.source.text)
      if let tenant = scope.tenant, !bound.isKnown {
        Terminal.errorLine("cordon: nobody is of tenant '\(Terminal.escape(tenant))' yet; is it spelt right?")
      }
      Terminal.line(json ? #"{"digest":"\#(bound.digest)"}"# : bound.digest.description)
    }
  }
}

struct PolicyUnbind: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unbind", abstract: "Take away what is bound to a tenant, a queue, or a tenant in a queue.",
    discussion:
      "Needs a member of cordon_operator. Jobs keep the policy they were accepted under, which may be narrower.")

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var scope: PolicyScope

  func run() async throws {
    try scope.require()
    let wasBound = try await database.withStore { try await $0.unbindPolicy(tenant: scope.tenant, queue: scope.queue) }
    guard wasBound else { throw Failure(.usage, "nothing is bound there; see cordon policy list") }
  }
}

struct PolicyList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "The policy in force and the documents that are bound.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "All that ever were in force or bound, the newest first.")
  var history = false
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.policyHistory(everything: history), json: json,
        columns: [
          ("FOR", "scope"), ("POLICY", "policy"), ("SINCE", "since"), ("BY", "set_by"), ("IN FORCE", "in_force"),
        ])
    }
  }
}
