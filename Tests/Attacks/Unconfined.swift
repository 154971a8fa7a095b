import Foundation
import Jobs
import TestKit

/// Runs the program of a case as a process of the host, without a cell, in a scratch directory with the same
/// environment: what the case looks like where the guard is absent.
struct Unconfined {
  static let limit = Duration.seconds(30)

  let payload: Payload
  let arguments: [String]
  let user: HostUser
  let wrapper: [String]
  let place: Place

  func run() async throws -> Evidence {
    let scratch = try place.directory("control-\(UUID().uuidString)")
    for name in ["job", "input", "output", "result", "tmp"] {
      _ = try place.directory(scratch.dropFirst(place.path.count + 1) + "/" + name)
    }
    let environment = [
      "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": scratch + "/tmp",
      "TMPDIR": scratch + "/tmp", "LANG": "C.UTF-8", "CORDON_INPUT": scratch + "/input",
      "CORDON_OUTPUT": scratch + "/output", "CORDON_RESULT": scratch + "/result/result.json",
      AttackHouse.secret.name: AttackHouse.secret.value,
    ]
    try Data("input\n".utf8).write(to: URL(fileURLWithPath: scratch + "/input/given.txt"))
    var command = try command(in: scratch)
    if user == .ordinary {
      let id = String(Place.ordinaryUser)
      command = ["/usr/bin/setpriv", "--reuid", id, "--regid", id, "--clear-groups"] + command
    }
    command = wrapper + command
    // `sh` only changes the directory.
    let child = try Child(
      "/bin/sh", ["-c", "cd \"$1\" && shift && exec \"$@\"", "sh", scratch + "/job"] + command,
      environment: environment, stdin: "/dev/null", stdout: place.path + "/stdout", stderr: place.path + "/stderr")
    let end = ContinuousClock.now + Self.limit.patiently
    var isKilled = false
    while child.isRunning {
      if ContinuousClock.now > end, !isKilled {
        kill(child.processIdentifier, SIGKILL)
        isKilled = true
      }
      try await Task.sleep(for: .milliseconds(10))
    }
    let result = (try? Data(contentsOf: URL(fileURLWithPath: scratch + "/result/result.json")))
      .flatMap { try? JSONDecoder().decode(JSONValue.self, from: $0) }
    let stdout = Self.text(place.path + "/stdout")
    return Evidence(
      record: .object([:]), seen: Evidence.book(result: result, stdout: stdout), stdout: stdout,
      stderr: Self.text(place.path + "/stderr"), exit: isKilled ? nil : child.terminationStatus, scratch: scratch,
      place: place)
  }

  private static func text(_ path: String) -> String {
    String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
  }

  private func command(in scratch: String) throws -> [String] {
    func program(_ text: String, _ name: String) throws -> String {
      let path = scratch + "/job/" + name
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      return path
    }
    switch try payload.resolved() {
    case .python(let text):
      return ["/usr/bin/python3", "-I", "-B", "-u", try program(text, "main.py")] + arguments
    case .bash(let text): return ["/usr/bin/bash", "--noprofile", "--norc", try program(text, "main.sh")] + arguments
    case .command(let words): return words + arguments
    case .file, .egress: preconditionFailure("a file is resolved")
    }
  }
}

extension Payload {
  private static let directory = TestKit.repository.appending(path: "Tests/Attacks/Payloads")

  /// The text as it runs.
  func resolved() throws -> Payload {
    switch self {
    case .python(let text): return .python(try Self.text("observe.py") + text + "\nend()\n")
    case .egress(let text): return try Payload.python(try Self.text("reach.py") + text).resolved()
    case .file(let name):
      let text = try Self.text(name)
      return name.hasSuffix(".py") ? try Payload.python(text).resolved() : .bash(text)
    case .bash, .command: return self
    }
  }

  func specification(_ arguments: [String], label: String, asks: [String: JSONValue]) throws -> [String: JSONValue] {
    var members: [String: JSONValue] = asks
    members["labels"] = .object(["attack": .string(label)])
    let words = arguments.map(JSONValue.string)
    switch try resolved() {
    case .python(let text):
      members["runtime"] = .string("python3")
      members["code"] = .string(AttackRuntime.saying + text)
      members["args"] = .array(words)
    case .bash(let text):
      members["runtime"] = .string("bash")
      members["code"] = .string(text)
      members["args"] = .array(words)
    case .command(let command):
      members["runtime"] = .string("exec")
      members["argv"] = .array(command.map(JSONValue.string) + words)
    case .file, .egress: preconditionFailure("a file is resolved")
    }
    return members
  }

  private static func text(_ name: String) throws -> String {
    try String(contentsOf: directory.appending(path: name), encoding: .utf8)
  }
}
