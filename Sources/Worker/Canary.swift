import Sandbox

/// When a serving worker looks from inside a cell again, and what it does about what it sees: a value, without I/O.
///
/// What was missing at the start, and was waived, may be missing still. Whatever else does not hold ends the serving;
/// so does a canary that cannot run, because nothing is known then. A control that a policy would waive ends it too:
/// the attempts so far have been recorded as confined by it. Started again, the worker registers without it.
struct Canary {
  enum Verdict: Equatable {
    case serve
    /// Stop, for this reason.
    case drain(Finding)
  }

  /// The longest time between two looks.
  let interval: Duration
  /// Controls that were missing when the worker registered.
  let waived: Set<String>
  /// When the next look is due.
  private(set) var due: ContinuousClock.Instant

  /// Longest time a look may take. Far above what its cells are allowed, so that only a hanging warden reaches it.
  static let patience = Duration.seconds(90)

  /// The least part of the interval that is waited: a fleet that was started at once does not stay in step.
  private static let shortest = 0.75

  /// - Parameter spread: where between the shortest pause and the interval this one lies, 0 to 1.
  init(interval: Duration, waived: Set<String>, now: ContinuousClock.Instant, spread: Double) {
    self.interval = interval
    self.waived = waived
    due = now
    schedule(after: now, spread: spread)
  }

  mutating func schedule(after now: ContinuousClock.Instant, spread: Double) {
    due = now + interval * (Self.shortest + (1 - Self.shortest) * min(max(spread, 0), 1))
  }

  func verdict(_ findings: [Finding]) -> Verdict {
    guard !findings.isEmpty else { return verdict(failed: "it looked at nothing") }
    guard let broken = findings.first(where: { !$0.holds && !waived.contains($0.control) }) else { return .serve }
    return .drain(broken)
  }

  /// The canary could not run, or did not come to an end.
  func verdict(failed why: String) -> Verdict {
    .drain(
      Finding(
        control: "canary", holds: false, detail: "it could not run, so nothing is known to hold: \(why)",
        fix: "run `cordon doctor` on this host and see what cordon-warden wrote to its log"))
  }
}

extension Canary {
  /// Looks from inside a cell, and gives up waiting after `patience`; a look that hangs ends with the sandbox.
  static func look(
    patience: Duration = patience, _ probe: @escaping @Sendable () async throws -> [Finding]
  ) async -> Result<[Finding], any Error> {
    let (answers, answer) = AsyncStream.makeStream(of: Result<[Finding], any Error>.self)
    let looking = Task {
      do { answer.yield(.success(try await probe())) } catch { answer.yield(.failure(error)) }
    }
    let waiting = Task {
      try await Task.sleep(for: patience)
      answer.yield(.failure(CanaryTimeout(patience: patience)))
    }
    defer {
      looking.cancel()
      waiting.cancel()
    }
    for await first in answers { return first }
    return .failure(CancellationError())
  }
}

struct CanaryTimeout: Error, CustomStringConvertible {
  let patience: Duration
  var description: String { "no answer within \(patience)" }
}
