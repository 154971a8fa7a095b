import ArgumentParser
import Jobs
import Policies
import Store

struct PolicySet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set", abstract: "Put a policy in force for everybody.",
    discussion: """
      Needs a member of cordon_operator. The document is judged as a whole before anything changes: an unknown member,
      one that stands twice, a value of another kind or the name of no control that can be waived is refused with its
      path and line (exit code 2). Jobs that wait run under the new policy where it is narrower than the one they were
      accepted under; those that asked for what it does not allow are held. Prints the digest.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "A file with the policy as YAML or JSON ('-' for stdin).")
  var file: String
  @Flag(help: "Print {\"digest\": …}.")
  var json = false

  func run() async throws {
    let document = try readPolicy(file, as: .ceiling)
    try await database.withStore { store in
      let digest = try await store.setPolicy(document.json, source: document.source.text)
      Terminal.line(json ? #"{"digest":"\#(digest)"}"# : digest.description)
    }
  }
}
