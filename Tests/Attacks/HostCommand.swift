import Foundation
import TestKit

/// A command of the host in a test's own words: `$1` and so on in the script are the arguments.
enum HostCommand {
  struct Answer: Sendable {
    /// Nil when it had to be killed.
    var status: Int32?
    var output: String
  }

  static func run(_ script: String, _ arguments: String..., limit: Duration = .seconds(20)) async throws -> Answer {
    try await run(script, arguments, limit: limit)
  }

  static func run(
    _ script: String, _ arguments: [String], environment: [String: String] = [:], limit: Duration = .seconds(20)
  ) async throws -> Answer {
    let output = "/var/tmp/cordon-attack-output-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: output) }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    let child = try Child(
      "/usr/bin/bash", ["--noprofile", "--norc", "-c", script, "bash"] + arguments,
      environment: ["PATH": path, "LANG": "C.UTF-8"].merging(environment) { _, given in given }, stdin: "/dev/null",
      stdout: output, stderr: output)
    let end = ContinuousClock.now + limit.patiently
    var isKilled = false
    while child.isRunning {
      if ContinuousClock.now > end, !isKilled {
        kill(child.processIdentifier, SIGKILL)
        isKilled = true
      }
      try await Task.sleep(for: .milliseconds(5))
    }
    let bytes = FileManager.default.contents(atPath: output) ?? Data()
    return Answer(status: isKilled ? nil : child.terminationStatus, output: String(decoding: bytes, as: UTF8.self))
  }
}

extension Evidence {
  /// What a collector would take over that copies whatever it finds: names and contents beneath the copy.
  func naiveCopy() async throws -> String {
    let answer = try await HostCommand.run(
      """
      cp -rL "$1/output" "$1/copy" 2>&1
      cd "$1/copy" && find . -printf '%y %p\\n' && find . -type f -exec cat {} +
      """,
      scratch)
    return answer.output
  }
}
