import ArgumentParser
import BenchReport
import Foundation

/// Measurements of the broker on the machine they are run on; `ops/bench` builds and calls it.
@main
struct EgressBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "EgressBench",
    abstract: "Measures the broker against no broker and against squid, on this machine.",
    discussion: "Exit codes: 0 measured; 2 usage; 3 nothing could be measured; 130 interrupted.",
    subcommands: [EgressCommand.self, ServerCommand.self, BrokerCommand.self])

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
