import Foundation
import TestKit

/// The independent implementation beside this file, run with the interpreter that `ops/lib/reference.sh` prepares.
/// Without it the tests that ask it fail: what nobody compared is not what nobody found wrong.
struct Reference {
  struct Missing: Error, CustomStringConvertible {
    let description: String
  }

  private static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  private static let interpreter =
    directory
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: ".build/reference/bin/python3")

  /// Answers in the order of the questions.
  static func ask<Question: Encodable, Answer: Decodable>(
    _ questions: [Question], as type: Answer.Type = Answer.self
  ) throws -> [Answer] {
    guard FileManager.default.isExecutableFile(atPath: interpreter.path) else {
      throw Missing(description: "no \(interpreter.path) (fix: ops/test SchedulesTests)")
    }
    let place = FileManager.default.temporaryDirectory.appending(path: "cordon-reference-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: place) }
    // Files, since a pipe that nobody empties would stop both.
    let (asked, answered) = (place.appending(path: "questions"), place.appending(path: "answers"))
    let complaints = place.appending(path: "complaints")
    try JSONEncoder().encode(questions).write(to: asked)
    let child = try Child(
      interpreter.path, ["-I", directory.appending(path: "reference.py").path],
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
struct Seeded: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  /// SplitMix64.
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
