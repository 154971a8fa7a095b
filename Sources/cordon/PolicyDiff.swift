import ArgumentParser
import Foundation
import Jobs
import Policies
import Store

struct PolicyDiff: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "Say member by member what a document allows more or less than another.",
    discussion: """
      Each is a file in YAML or JSON, the digest of a document that the database knows, or `current` for the policy in
      force. The exit code is 1 where the second is wider in anything, else 0.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument var before: String
  @Argument var after: String
  @Flag(help: "Both narrow others: a member that is absent narrows nothing.")
  var narrowing = false
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    let (old, new) = (try await document(before), try await document(after))
    let differences = PolicyDifference.between(old, new, isWhole: !narrowing)
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      let entries = JSONValue.array(
        differences.map { difference in
          .object([
            "member": .string(difference.path), "before": difference.before ?? .null,
            "after": difference.after ?? .null,
            "direction": .string(difference.direction.rawValue),
          ])
        })
      Terminal.line(String(decoding: try encoder.encode(entries), as: UTF8.self))
    } else {
      var table = Table(["MEMBER", "BEFORE", "AFTER", ""])
      for difference in differences {
        table.add([
          difference.path, RecordView.text(difference.before), RecordView.text(difference.after),
          difference.direction.rawValue,
        ])
      }
      if !differences.isEmpty { for line in table.lines { Terminal.line(line) } }
    }
    if differences.contains(where: { $0.direction == .wider }) { throw ExitCode(1) }
  }

  private func document(_ name: String) async throws -> JSONValue {
    if name == "current" {
      return try parseRecord(try await database.withStore { try await $0.policyInForce().document })
    } else if let digest = Digest(name) {
      return try parseRecord(try await database.withStore { try await $0.policyDocument(digest).document })
    }
    return try readPolicy(name, as: narrowing ? .narrowing : .ceiling).source.value
  }
}
