import BenchReport
import Foundation
import Jobs

/// The Python that has the peers, and the driver that runs them.
struct PeerDriver: Sendable {
  /// Interpreter of the environment that `ops/bench` installs.
  var python: String
  var driver: String

  /// What an action may take beyond the time it was given: starting Python, installing a schema.
  private static let patience = 300.0

  /// Runs one action and returns what it printed; throws the last line it said where it did not end well.
  func run(_ arguments: [String], within seconds: Double = 0) async throws -> JSONValue {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: python)
    // The bytecode of our own modules would be written into the repository.
    process.arguments = ["-B", driver] + arguments
    process.standardInput = FileHandle.nullDevice
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    let pid = process.processIdentifier
    let watch = Task {
      try await Task.sleep(for: .seconds(seconds + Self.patience))
      kill(pid, SIGKILL)
    }
    defer { watch.cancel() }
    async let said = Self.everything(errors)
    let text = await Self.everything(output)
    let complaints = await said
    process.waitUntilExit()
    guard process.terminationStatus == 0, process.terminationReason == .exit else {
      let last = complaints.split(whereSeparator: \.isNewline).last.map(String.init)
      throw BenchError(last ?? "\(arguments.joined(separator: " ")) ended with \(process.terminationStatus)")
    }
    return try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
  }

  private static func everything(_ pipe: Pipe) async -> String {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        let data = (try? pipe.fileHandleForReading.readToEnd()) ?? Data()
        continuation.resume(returning: String(decoding: data, as: UTF8.self))
      }
    }
  }
}

extension JSONValue {
  subscript(_ member: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members[member]
  }

  var asDouble: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}
