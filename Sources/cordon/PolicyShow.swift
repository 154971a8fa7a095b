import ArgumentParser
import Foundation
import Jobs
import Store

struct PolicyShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Print the policy in force.",
    discussion: """
      The document goes to stdout, ready for `cordon policy set`; its name, since when and by whom to stderr.
      """)

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "Print {\"digest\": …, \"since\": …, \"set_by\": …, \"document\": …}.")
  var json = false

  func run() async throws {
    let policy = try await database.withStore { try await $0.policyInForce() }
    let document = try parseRecord(policy.document)
    let since = policy.since.formatted(.iso8601)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if json {
      let answer = JSONValue.object([
        "digest": .string(policy.digest.description), "since": .string(since), "set_by": .string(policy.setBy),
        "document": document,
      ])
      Terminal.line(String(decoding: try encoder.encode(answer), as: UTF8.self))
      return
    }
    encoder.outputFormatting.insert(.prettyPrinted)
    Terminal.errorLine("policy \(policy.digest), in force since \(since), set by \(Terminal.escape(policy.setBy))")
    Terminal.line(String(decoding: try encoder.encode(document), as: UTF8.self))
  }
}
