import ArgumentParser
import Foundation

struct WorkerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "worker",
    abstract: "Serve: claim jobs, run each in a fresh cell, write back what happened.",
    discussion: """
      Runs a self-test in a real cell first and refuses to serve where a control is missing that the policy in force
      does not waive (exit code 3; `cordon doctor` says what to do). While it serves, a canary looks from inside a
      cell again; a control that stopped holding drains the worker, which then ends with exit code 3. The first SIGTERM or Ctrl-C drains: no more claims, what runs may finish. The second
      ends what runs and gives it back.
      """)

  @OptionGroup var database: DatabaseOptions
  @Option(help: "Directory for the worker's state. Default: /var/lib/cordon as root.")
  var data: String?
  @Option(help: "Approved directory that artifacts are published to. Default: DATA/artifacts.")
  var artifacts: String?
  @OptionGroup var options: WorkerOptions

  func run() async throws {
    let signals = Signals()
    let data = Installation.absolute(data ?? Installation.defaultData)
    try await options.serve(
      connection: database.connection, state: data + "/worker",
      artifacts: artifacts.map(Installation.absolute) ?? data + "/artifacts", signals: signals)
  }
}
