import ArgumentParser
import BenchReport
import Foundation
import Jobs

/// Measurements of the queue on the machine they are run on; `ops/bench` builds and calls it.
@main
struct QueueBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "QueueBench",
    abstract: "Measures the queue against its floor and against its peers, on this machine.",
    discussion: "Exit codes: 0 measured; 2 usage; 3 nothing could be measured; 130 interrupted.",
    subcommands: [QueueCommand.self])

  static func main() async {
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch is CancellationError {
      Progress.line("interrupted; everything that was started has been stopped")
      Foundation.exit(130)
    } catch {
      let code = exitCode(for: error)
      if error is ExitCode || code == .success { exit(withError: error) }
      if code == .validationFailure {
        Progress.line("error: \(message(for: error)); see --help")
        Foundation.exit(2)
      }
      Progress.line("error: \(error)")
      Foundation.exit(3)
    }
  }
}
