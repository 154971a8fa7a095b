import ArgumentParser
import Jobs
import Policies

struct PolicyCheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Judge a document without a database.",
    discussion: """
      The first fault is told with its path and line (exit code 2). Without one, prints the digest that names the
      document wherever it is used.
      """)

  @Argument(help: "A file with the policy as YAML or JSON ('-' for stdin).")
  var file: String
  @Flag(help: "It is to be bound, and so narrows: a member that is absent leaves what is in force.")
  var narrowing = false
  @Flag(help: "Print {\"digest\": …}.")
  var json = false

  func run() async throws {
    let digest = try readPolicy(file, as: narrowing ? .narrowing : .ceiling).digest
    Terminal.line(json ? #"{"digest":"\#(digest)"}"# : digest.description)
  }
}
