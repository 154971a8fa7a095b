import ArgumentParser
import Foundation
import Postgres
import Worker

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
  @Option(
    help: ArgumentHelp(
      "File with a join token, to enrol with where --identity is not there yet.",
      discussion: "What --database says of a user is not heard then. Nobody else may read the file."))
  var join: String?
  @Option(help: "File that keeps this worker's login, which it makes and renews by itself. It must not be another's.")
  var identity: String?
  @OptionGroup var options: WorkerOptions

  func validate() throws {
    if join != nil, identity == nil { throw ValidationError("--join: say with --identity where to keep what it makes") }
  }

  func run() async throws {
    let signals = Signals()
    let data = Installation.absolute(data ?? Installation.defaultData)
    var keeper: IdentityKeeper?
    if let identity {
      // An identity may lie in it, whose own directory is its owner's alone; artifacts are for others, too.
      try Installation.makeDirectory(data)
      keeper = try await IdentityKeeper(
        file: Installation.absolute(identity), token: join.map(Installation.absolute), name: options.shownName,
        database: ConnectionSettings(database.connection, applicationName: "cordon worker"), logger: options.logger())
    }
    try await options.serve(
      connection: database.connection, state: data + "/worker",
      artifacts: artifacts.map(Installation.absolute) ?? data + "/artifacts", signals: signals, identity: keeper)
  }
}
