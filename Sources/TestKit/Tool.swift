import Foundation
import Jobs

/// The real `cordon` binary as a person or a script uses it.
public struct Tool: Sendable {
  /// The database the commands talk to.
  public var url: String

  public init(url: String) {
    self.url = url
  }

  public struct Answer: Sendable {
    public var status: Int32
    public var stdout: [UInt8]
    public var stderr: String

    public var text: String { String(decoding: stdout, as: UTF8.self) }
    public func json() throws -> JSONValue { try JSONDecoder().decode(JSONValue.self, from: Data(stdout)) }
  }

  public static var executable: String { get throws { try buildProduct(named: "cordon") } }

  /// Runs a command to its end; longer than `limit` is a failure of the test, not a wait without end.
  public func run(_ arguments: [String], stdin: [UInt8] = [], limit: Duration = .seconds(60)) async throws -> Answer {
    let running = try start(arguments, stdin: stdin)
    return try await running.answer(limit: limit)
  }

  /// The record of a job that `cordon run --json` ran.
  public func record(of arguments: [String], limit: Duration = .seconds(60)) async throws -> (
    record: JSONValue, status: Int32
  ) {
    let answer = try await run(["run", "--json"] + arguments, limit: limit)
    do {
      return (try answer.json(), answer.status)
    } catch {
      throw Problem("no record: exit status \(answer.status), \(answer.stderr)")
    }
  }

  public func show(_ job: String) async throws -> JSONValue { try await run(["show", "--json", job]).json() }

  public func enqueue(_ arguments: [String]) async throws -> String {
    let answer = try await run(["enqueue"] + arguments)
    guard answer.status == 0 else { throw Problem("enqueue: \(answer.stderr)") }
    return answer.text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Asks for the record until `condition` holds.
  public func wait(
    for job: String, limit: Duration = .seconds(30), until condition: (JSONValue) -> Bool
  ) async throws -> JSONValue {
    let end = ContinuousClock.now + limit.patiently
    while true {
      let record = try await show(job)
      if condition(record) { return record }
      guard ContinuousClock.now < end else {
        throw Problem("job \(job) is not there after \(limit.patiently): \(record)")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  public func start(_ arguments: [String], stdin: [UInt8] = []) throws -> RunningTool {
    var environment = ProcessInfo.processInfo.environment
    environment["CORDON_DATABASE_URL"] = url
    return try RunningTool(arguments, environment: environment, stdin: stdin)
  }
}

/// A `cordon` process, or another program's, with its output in files, so that neither side can block the other.
public final class RunningTool: @unchecked Sendable {
  public let process: Child
  private let directory: URL

  /// - Parameter through: a command in front, which must execute it in its own place.
  public convenience init(
    _ arguments: [String], environment: [String: String], stdin: [UInt8] = [], through: [String] = []
  ) throws {
    try self.init(command: through + [try Tool.executable] + arguments, environment: environment, stdin: stdin)
  }

  /// - Parameter command: the path of a program and its arguments.
  public init(command: [String], environment: [String: String], stdin: [UInt8] = []) throws {
    directory = FileManager.default.temporaryDirectory.appending(path: "cordon-journey-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    try Data(stdin).write(to: directory.appending(path: "stdin"))
    process = try Child(
      command[0], Array(command.dropFirst()), environment: environment, stdin: directory.path + "/stdin",
      stdout: directory.path + "/stdout", stderr: directory.path + "/stderr")
  }

  deinit {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    try? FileManager.default.removeItem(at: directory)
  }

  public var stdout: [UInt8] { (try? Data(contentsOf: directory.appending(path: "stdout"))).map(Array.init) ?? [] }
  public var stderr: String {
    String(decoding: (try? Data(contentsOf: directory.appending(path: "stderr"))) ?? Data(), as: UTF8.self)
  }

  public func signal(_ number: Int32) { kill(process.processIdentifier, number) }

  public func answer(limit: Duration = .seconds(60)) async throws -> Tool.Answer {
    let end = ContinuousClock.now + limit.patiently
    while process.isRunning {
      guard ContinuousClock.now < end else {
        signal(SIGKILL)
        throw Problem("\(process.arguments) still runs after \(limit.patiently): \(stderr)")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
    return Tool.Answer(status: process.terminationStatus, stdout: stdout, stderr: stderr)
  }
}

public struct Problem: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) {
    self.description = description
  }
}
