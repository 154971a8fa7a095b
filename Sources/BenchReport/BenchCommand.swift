import ArgumentParser
import Foundation

/// A program of measurements, as a command line: 0 measured, 2 usage, 3 nothing could be measured, 130 interrupted.
public protocol BenchCommand: AsyncParsableCommand {}

extension BenchCommand {
  public static func main() async {
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
