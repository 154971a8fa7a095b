import ArgumentParser
import Foundation
import Jobs
import Policies
import Store

struct Policy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what jobs may do: for everybody, and less for some.",
    discussion: """
      A policy is one document, in YAML or JSON: what a job gets when it asks for nothing, what it may ask for at most,
      which runtimes it may use, and which controls a worker may lack. One is in force for everybody (`set`); others are
      bound to a tenant, a queue, or a tenant in a queue (`bind`) and can only narrow it. `cordon policy show` prints
      one to start from.
      """,
    subcommands: [
      PolicyShow.self, PolicyCheck.self, PolicySet.self, PolicyBind.self, PolicyUnbind.self, PolicyList.self,
      PolicyDiff.self, PolicyExplain.self, PolicySimulate.self,
    ])
}

/// Whom a document is bound to, or whose policy is asked for.
struct PolicyScope: ParsableArguments {
  @Option(help: "Of this tenant.")
  var tenant: String?
  @Option(help: "In this queue.")
  var queue: String?

  var isEverybody: Bool { tenant == nil && queue == nil }

  /// One or both; a document for everybody goes by another command.
  func require() throws {
    guard !isEverybody else {
      throw Failure(
        .usage, "name a tenant with --tenant, a queue with --queue, or both; for everybody: cordon policy set")
    }
  }
}

/// Reads a policy as somebody wrote it; a fault in it is one line with its path and its place in the file.
func readPolicySource(_ file: String) throws -> PolicySource {
  let bytes = try readFile(file, field: "FILE")
  guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
    throw Failure(.usage, "policy: is no UTF-8 text without NUL bytes")
  }
  return try PolicySource(text)
}

func readPolicy(_ file: String, as kind: PolicyDocument.Kind) throws -> PolicyDocument {
  try PolicyDocument(try readPolicySource(file), as: kind)
}
