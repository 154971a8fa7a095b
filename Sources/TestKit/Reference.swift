import Foundation

/// An independent implementation, run with the interpreter that `ops/lib/reference.sh` prepares for a suite of tests.
/// Without it the tests that ask it fail: what nobody compared is not what nobody found wrong.
public struct Reference: Sendable {
  public struct Missing: Error, CustomStringConvertible {
    public let description: String
  }

  private let script: URL
  private let interpreter: URL
  private let suite: String

  /// `reference.py` in the folder of a suite.
  public init(of suite: String) {
    self.suite = suite
    script = repository.appending(path: "Tests/\(suite)/reference.py")
    interpreter = repository.appending(path: ".build/reference/\(suite)/bin/python3")
  }

  /// Answers in the order of the questions.
  public func ask<Question: Encodable, Answer: Decodable>(
    _ questions: [Question], as type: Answer.Type = Answer.self
  ) throws -> [Answer] {
    guard FileManager.default.isExecutableFile(atPath: interpreter.path) else {
      throw Missing(description: "no \(interpreter.path) (fix: ops/test \(suite))")
    }
    let place = FileManager.default.temporaryDirectory.appending(path: "cordon-reference-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: place) }
    // Files, since a pipe that nobody empties would stop both.
    let (asked, answered) = (place.appending(path: "questions"), place.appending(path: "answers"))
    let complaints = place.appending(path: "complaints")
    try JSONEncoder().encode(questions).write(to: asked)
    let child = try Child(
      interpreter.path, ["-I", script.path],
      environment: ProcessInfo.processInfo.environment, stdin: asked.path, stdout: answered.path,
      stderr: complaints.path)
    while child.isRunning { usleep(1_000) }
    guard child.terminationStatus == 0 else {
      let why = (try? String(contentsOf: complaints, encoding: .utf8)) ?? ""
      throw Missing(description: "reference.py ended with \(child.terminationStatus): \(why)")
    }
    return try JSONDecoder().decode([Answer].self, from: Data(contentsOf: answered))
  }
}

/// A generator of numbers that are the same on every run.
public struct Seeded: RandomNumberGenerator {
  private var state: UInt64

  public init(_ seed: UInt64) { state = seed }

  /// SplitMix64.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
