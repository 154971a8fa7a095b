import ArgumentParser
import Foundation
import Jobs
import Store

struct PolicySet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set", abstract: "Put a policy in force for every job that is enqueued from now on.",
    discussion: """
      Needs a member of cordon_operator. The document is judged as a whole before anything changes: an unknown member,
      one that stands twice, a value of another kind or the name of no control that can be waived is refused with its
      path (exit code 2). Jobs that were enqueued before keep the policy they were accepted under. Prints the digest.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "A file with the policy as JSON ('-' for stdin).")
  var file: String
  @Flag(help: "Print {\"digest\": …}.")
  var json = false

  func run() async throws {
    let bytes = try readFile(file, field: "FILE")
    guard let document = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw Failure(.usage, "policy: is no UTF-8 text without NUL bytes")
    }
    try await database.withStore { store in
      let digest = try await store.setPolicy(document)
      Terminal.line(json ? #"{"digest":"\#(digest)"}"# : digest.description)
    }
  }
}
