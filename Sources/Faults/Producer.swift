import Crypto
import FaultHistory
import Foundation
import Jobs
import Postgres
import Store
import Synchronization

/// Puts jobs in at a steady pace, and writes down what it is told. A call whose answer did not come is made again under
/// the same key until it is answered, as every producer should.
struct Producer: Sendable {
  let store: Store
  let ledger: Ledger
  let seed: UInt64
  /// Between two jobs of one producer.
  let pace: Duration

  /// What a fault finds running is mostly what lasts.
  private static let mixture: [History.Acknowledged.Kind] = [
    .quick, .output, .slow, .slow, .slow, .slow, .fails, .flaky, .scheduled, .cancelled, .cancelledSoon, .parent,
  ]

  /// Number of the job after its kind: what a run does is the same for the same seed, whatever became of the calls.
  /// Ends after the job under way once `end` is due: whatever was sent is answered and acknowledged.
  func run(_ number: Int, of producers: Int, until end: Ending) async throws {
    var count = number
    while !end.isDue {
      var chance = SplitMix(seed: seed &+ UInt64(count))
      let kind = Self.mixture.randomElement(using: &chance)!
      try await produce(kind, count, &chance)
      count += producers
      try await Task.sleep(for: pace)
    }
  }

  private func produce(
    _ kind: History.Acknowledged.Kind, _ number: Int, _ chance: inout SplitMix
  ) async throws {
    var runAt: Date?
    if kind == .scheduled { runAt = .now + Double.random(in: 0.5...3, using: &chance) }
    if kind == .cancelled { runAt = .now + 3_600 }
    var told = try await enqueue(kind, number, runAt: runAt)
    switch kind {
    case .cancelled, .cancelledSoon:
      let job = JobID(told.job)!
      told.cancel = try await insist { try await store.cancel(job) }
      try ledger.note(told)
    case .parent:
      _ = try await enqueue(.child, number, after: told.job)
    default: break
    }
  }

  private func enqueue(
    _ kind: History.Acknowledged.Kind, _ number: Int, runAt: Date? = nil, after parent: String? = nil
  ) async throws -> History.Acknowledged {
    let key = "faults-\(number)-\(kind)"
    let text = "\(number) \(kind)"
    let specification = Self.specification(kind, text)
    let parents = parent.flatMap { JobID($0) }.map { [$0] } ?? []
    let enqueued = try await insist {
      try await store.enqueue(
        queue: "default", specification: specification, key: key, runAt: runAt, after: parents,
        onFailure: parents.isEmpty ? nil : "run")
    }
    let writes: [History.Acknowledged.Kind] = [.output, .slow, .flaky, .scheduled, .parent, .child]
    let told = History.Acknowledged(
      number: number, kind: kind, key: key, job: enqueued.job.description, parent: parent,
      content: writes.contains(kind)
        ? Jobs.Digest(sha256: SHA256.hash(data: Data("\(text)\n".utf8))).description : nil)
    try ledger.note(told)
    return told
  }

  /// Every program differs from every other, so that no breaker opens for what is meant to fail.
  private static func specification(_ kind: History.Acknowledged.Kind, _ text: String) -> String {
    let write = "echo \(text) > $CORDON_OUTPUT/text"
    let (code, retry) =
      switch kind {
      case .quick, .cancelled, .cancelledSoon: ("true # \(text)", "")
      case .output, .scheduled, .parent, .child: (write, "")
      case .slow: ("sleep 1.5; \(write)", "")
      case .fails: ("exit 3 # \(text)", #", "retry": {"attempts": 2, "backoff": "fixed", "delay": "300ms"}"#)
      case .flaky:
        (
          "[ $CORDON_ATTEMPT -ge 2 ] || exit 4; \(write)",
          #", "retry": {"attempts": 4, "backoff": "fixed", "delay": "300ms"}"#
        )
      }
    return #"{"runtime": "bash", "code": "\#(code)", "limits": {"wall": "30s"}\#(retry)}"#
  }

  /// Calls until there is an answer. A refusal by the database is a mistake of this program.
  private func insist<Value: Sendable>(_ call: @Sendable () async throws -> Value) async throws -> Value {
    while true {
      do {
        return try await call()
      } catch let error as PostgresError where !error.isRefusal {
        try await Task.sleep(for: .milliseconds(100))
      }
    }
  }
}

/// Says when to stop.
final class Ending: Sendable {
  private let due = Atomic(false)

  var isDue: Bool { due.load(ordering: .relaxed) }
  func raise() { due.store(true, ordering: .relaxed) }
}

extension PostgresError {
  /// Whether asking again cannot help: malformed, not allowed, no such job.
  var isRefusal: Bool { kind == .server && ["22023", "42501", "CD404", "CD001"].contains(sqlState ?? "") }
}
