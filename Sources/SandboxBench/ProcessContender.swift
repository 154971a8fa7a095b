import BenchReport
import Foundation
import Kernel

/// A contender that is a command, or a few of them: the plain program itself, and all peers.
struct ProcessContender: Contender {
  /// What one program in one slot takes.
  struct Commands: Sendable {
    /// Within the clock of a latency sample, one after the other; the last one runs the program.
    var measured: [Spawn]
    /// After it; a sustained rate counts them.
    var afterwards: [Spawn] = []
  }

  let name: String
  let note: String
  let limitsResources: Bool
  let wardens: [Int32] = []
  private let commands: [Program: [Commands]]
  /// What a thread does before it runs the commands, for those that do not run otherwise.
  private let surroundings: (@Sendable () throws -> Void)?
  private let tidy: @Sendable () -> Void

  init(
    name: String, note: String = "", limitsResources: Bool, programs: [Program],
    surroundings: (@Sendable () throws -> Void)? = nil, tidy: @escaping @Sendable () -> Void = {},
    commands: (Program, _ slot: Int) throws -> Commands
  ) throws {
    self.name = name
    self.note = note
    self.limitsResources = limitsResources
    self.surroundings = surroundings
    self.tidy = tidy
    var all: [Program: [Commands]] = [:]
    for program in programs { all[program] = try (0..<slots).map { try commands(program, $0) } }
    self.commands = all
  }

  func offers(_ program: Program) -> Bool { commands[program] != nil }

  /// Where the surroundings are a thread's own, it runs on a thread made for it, whose making is before the clock.
  func run(_ program: Program, slot: Int) async throws -> Latency {
    if surroundings == nil { return try runNow(program, slot: slot) }
    return try await onThread { try runNow(program, slot: slot) }
  }

  /// On a thread of its own: it blocks, and there are fewer threads for tasks than slots.
  func runs(_ program: Program, slot: Int, while wanted: @escaping @Sendable () -> Bool) async throws -> Int {
    try await onThread {
      var count = 0
      while wanted() {
        _ = try runNow(program, slot: slot)
        count += 1
      }
      return count
    }
  }

  private func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      Thread {
        continuation.resume(
          with: Result {
            try surroundings?()
            return try body()
          })
      }.start()
    }
  }

  private func runNow(_ program: Program, slot: Int) throws -> Latency {
    guard let commands = commands[program]?[slot] else { throw BenchError("\(name) cannot run \(program.name)") }
    let begin = microseconds()
    var end = begin
    do {
      for command in commands.measured { try Self.demandSuccess(command) }
      end = microseconds()
    } catch {
      for command in commands.afterwards { try? Self.demandSuccess(command) }
      throw error
    }
    for command in commands.afterwards { try Self.demandSuccess(command) }
    return Latency(started: nil, total: end - begin)
  }

  private static func demandSuccess(_ command: Spawn) throws {
    let status = try command.run()
    guard status == .exited(0) else {
      throw BenchError("\(command.arguments.joined(separator: " ").prefix(200)) ended with \(status.shown)")
    }
  }

  /// Runs it once and throws its own words where it fails.
  func explain(_ program: Program) async throws {
    guard let commands = commands[program]?.first else { return }
    try await onThread {
      defer { for command in commands.afterwards { try? command.runOrExplain() } }
      for command in commands.measured { try command.runOrExplain() }
    }
  }

  func prepared() throws -> Int { 0 }

  /// Their commands end when what they made is taken down.
  func settle(prepared: Int) async throws -> ContinuousClock.Instant { .now }

  func close() async { tidy() }
}
