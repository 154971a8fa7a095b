import Jobs
import Postgres
import Store

/// Writes starts and ends of this worker's attempts, those of one moment in one statement and one commit (`Gathering`).
///
/// The caller is answered when its own entry is durable, or not: as if it had asked alone.
/// `ops/bench queue --only sandboxed` measures what that is worth.
struct Recorder: Sendable {
  private let starts: SharedStatement<StartAttribution>
  private let ends: SharedStatement<AttemptReport>

  init(store: Store, worker: Int64) {
    starts = SharedStatement { entries in
      let begun = try await store.start(worker: worker, entries.map { ($0.claim, $0.value) })
      return Dictionary(uniqueKeysWithValues: begun.map { ($0, true) })
    }
    ends = SharedStatement { entries in
      try await store.complete(worker: worker, finished: entries.map { ($0.claim, $0.value) })
    }
  }

  /// Whether the attempt may run: it is still ours and not cancelled. Durable when this returns.
  func start(_ claim: Claim, _ attribution: StartAttribution) async throws -> Bool {
    try await starts.ask(claim, attribution)
  }

  /// `Store.complete` of one attempt.
  func complete(_ claim: Claim, _ report: AttemptReport) async throws -> Bool {
    try await ends.ask(claim, report)
  }
}

/// One statement for many callers.
private actor SharedStatement<Value: Sendable> {
  typealias Entry = (claim: Claim, value: Value)
  /// Answers for each job; one that is missing is answered with false.
  typealias Statement = @Sendable ([Entry]) async throws -> [JobID: Bool]

  private struct Request {
    let entry: Entry
    let answer: CheckedContinuation<Bool, any Error>
  }

  /// Above what most workers run at once, and short of a statement that everybody else has to wait for.
  private static var most: Int { 100 }

  private let statement: Statement
  private var gathering = Gathering<Request>(most: SharedStatement.most)

  init(_ statement: @escaping Statement) {
    self.statement = statement
  }

  func ask(_ claim: Claim, _ value: Value) async throws -> Bool {
    try await withCheckedThrowingContinuation { answer in
      send(gathering.add(Request(entry: (claim, value), answer: answer), job: claim.job))
    }
  }

  private func send(_ requests: [Request]?) {
    guard let requests else { return }
    Task {
      await perform(requests)
      send(gathering.answered())
    }
  }

  private func perform(_ requests: [Request]) async {
    do {
      let answers = try await statement(requests.map(\.entry))
      for request in requests { request.answer.resume(returning: answers[request.entry.claim.job] ?? false) }
    } catch {
      // What is refused for what one of them asks must not be the others' failure.
      if requests.count > 1, !AttemptRun.isTransient(error) {
        for request in requests { await perform([request]) }
      } else {
        for request in requests { request.answer.resume(throwing: error) }
      }
    }
  }
}
