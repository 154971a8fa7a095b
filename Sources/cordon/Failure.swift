import ArgumentParser
import Foundation
import Identity
import Policies
import Postgres
import Sandbox
import Schedules
import Store
import Worker

/// An error as the command line shows it: one line that names the thing and the fix, and an exit code.
struct Failure: Error, CustomStringConvertible {
  /// The exit codes a script can rely on.
  enum Code: Int32 {
    /// The job ended otherwise than by success.
    case job = 1
    /// The command or the request is malformed, or names something that does not exist.
    case usage = 2
    /// The database is away, or this host cannot confine.
    case environment = 3
    /// Well-formed, but not allowed.
    case refused = 4
  }

  let code: Code
  let description: String

  init(_ code: Code, _ description: String) {
    self.code = code
    self.description = description
  }

  /// Any error as a failure; the SQLSTATE decides whether it is the request, the rights or the database.
  init(_ error: any Error) {
    switch error {
    case let failure as Failure:
      self = failure
    case let error as PostgresError:
      self.init(Self.code(of: error), Self.line(of: error))
    case let error as WorkerError:
      self.init(.environment, error.description)
    case let error as SandboxError:
      self.init(.environment, error.description)
    case let error as ScheduleProblem:
      self.init(.usage, error.description)
    case let error as PolicyProblem:
      self.init(.usage, error.description)
    case let error as NameProblem:
      self.init(.usage, error.description)
    case let error as KeyRingProblem:
      self.init(.usage, error.description)
    case let error as IdentityProblem:
      self.init(.refused, error.description)
    case let error as FileProblem:
      self.init(.environment, error.description)
    case let error as SchemaError:
      self.init(.environment, error.description)
    default:
      self.init(.environment, "\(error)")
    }
  }

  private static func code(of error: PostgresError) -> Code {
    switch error.sqlState {
    case "42501"?, "CD001"?, "CD429"?, "CD503"?: .refused
    case "CD404"?: .usage
    case let state? where state.hasPrefix("22"): .usage
    default: .environment
    }
  }

  private static func line(of error: PostgresError) -> String {
    // A request the database refused is shown in its own words; the name of a statement would help nobody there.
    let isRefusal = code(of: error) != .environment
    var line = isRefusal ? error.message : error.description
    if isRefusal, let hint = error.hint { line += " (\(hint))" }
    return line.split(whereSeparator: \.isNewline).joined(separator: " ")
  }

  /// Prints the error the way its kind wants it and ends the process.
  static func exit(_ error: any Error) -> Never {
    // Help and version are no errors, and argument-parser's own messages already name the option.
    let parserCode = Cordon.exitCode(for: error)
    if parserCode == .success { Cordon.exit(withError: error) }
    if let code = error as? ExitCode { Foundation.exit(code.rawValue) }
    if parserCode == .validationFailure {
      // One line: the parser's own adds a usage block, and repeats what was typed as it was typed.
      Terminal.errorLine("cordon: \(Terminal.escape(Cordon.message(for: error))); see --help")
      Foundation.exit(Code.usage.rawValue)
    }
    let failure = Failure(error)
    Terminal.errorLine("cordon: \(Terminal.escape(failure.description))")
    Foundation.exit(failure.code.rawValue)
  }
}
