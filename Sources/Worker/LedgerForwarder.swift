import Logging
import Synchronization

/// Writes an attempt's ledger to the database, in its order, every `interval`.
///
/// Where the database is away, lines wait. Where it refuses them, none can follow: then nothing may go on unrecorded.
final class LedgerForwarder: Sendable {
  /// As for what a job prints: so soon others see it.
  private static let interval = LogForwarder.interval
  /// Lines in one statement; the database takes no more.
  private static let most = 1_000

  /// Stores lines; false where the attempt is not this worker's any more.
  typealias Appending = @Sendable (_ lines: [String]) async throws -> Bool
  private let append: Appending
  private let logger: Logger
  /// The last lines are waited for as the attempt's end is (`AttemptRun.insist`).
  private let isLeaving: @Sendable () async -> Bool
  private let state = Mutex(State())

  private struct State {
    var lines: [String] = []
    var task: Task<Void, Never>?
    var isOver = false
  }

  init(
    logger: Logger, isLeaving: @escaping @Sendable () async -> Bool = { false }, append: @escaping Appending
  ) {
    self.logger = logger
    self.isLeaving = isLeaving
    self.append = append
  }

  /// From the broker, which must not be held up.
  func add(_ line: String) { state.withLock { $0.lines.append(line) } }

  /// - Parameter cut: is told, in words, that lines are not stored any more.
  func begin(cut: @escaping @Sendable (_ reason: String) -> Void) {
    let task = Task {
      if let reason = await self.forward() { cut(reason) }
    }
    state.withLock { $0.task = task }
  }

  func finish() async {
    let task = state.withLock { state in
      state.isOver = true
      return state.task
    }
    await task?.value
  }

  /// Until all lines are stored; why they are not where none can be any more.
  private func forward() async -> String? {
    while true {
      let (lines, isOver) = state.withLock { (Array($0.lines.prefix(Self.most)), $0.isOver) }
      if lines.isEmpty {
        if isOver { return nil }
      } else {
        do {
          guard try await append(lines) else {
            logger.warning("lines of the ledger came too late", metadata: ["lines": "\(lines.count)"])
            return "the attempt is not this worker's any more"
          }
          state.withLock { $0.lines.removeFirst(lines.count) }
          if isOver { continue }
        } catch {
          logger.warning("the ledger is not written yet", metadata: ["error": "\(error)"])
          guard AttemptRun.isTransient(error) else { return "the ledger cannot be stored" }
          if isOver, await isLeaving() { return "the worker leaves, and its database does not answer" }
        }
      }
      try? await Task.sleep(for: Self.interval)
    }
  }
}
