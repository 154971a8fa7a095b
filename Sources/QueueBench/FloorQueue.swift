import BenchReport
import CQueueFloor
import Foundation
import Jobs
import Store

// The floor: the same statements with the same texts, prepared, sent by C through libpq's blocking calls, with as many
// sessions and as large batches. It reads of an answer what the next statement needs and decodes nothing. No client of
// these statements can be faster, so what Cordon loses to it is what Swift costs. Jobs are enqueued as Cordon's are.

/// Raw libpq on Cordon's statements.
struct FloorQueue: QueueContender {
  let cordon: CordonQueue
  let name = "floor"

  var database: String { cordon.database }
  var strategy: String { "C, libpq, the same statements, sessions and batches" }

  func prepare() async throws { try await cordon.prepare() }
  func fill(_ jobs: Int) async throws -> Effort { try await cordon.fill(jobs) }
  func clear() async throws { try await cordon.clear() }

  func drain(_ jobs: Int, within seconds: Double) async throws -> Effort {
    let texts = try FloorTexts(cordon)
    defer { texts.free() }
    var sessions: [Session] = []
    defer { for session in sessions { queue_floor_close(session.pointer) } }
    for _ in 0..<cordon.choice.clients { sessions.append(try Session(texts)) }
    let begin = microseconds()
    let efforts = try await withThrowingTaskGroup { group in
      for session in sessions { group.addTask { try await session.drain() } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    return Effort(
      jobs: efforts.reduce(0) { $0 + $1.jobs }, seconds: (microseconds() - begin) / 1e6,
      roundTrips: efforts.reduce(0) { $0 + $1.roundTrips })
  }

  /// One connection, used by one thread at a time.
  private struct Session: @unchecked Sendable {
    let pointer: OpaquePointer

    init(_ texts: FloorTexts) throws {
      var error = [CChar](repeating: 0, count: 512)
      guard let session = queue_floor_open(texts.floor, &error, error.count) else {
        throw BenchError(
          "floor: \(String(decoding: error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))")
      }
      pointer = session
    }

    /// On a thread of its own: the calls block.
    func drain() async throws -> (jobs: Int, roundTrips: Int) {
      try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
          var error = [CChar](repeating: 0, count: 512)
          var roundTrips = 0
          let jobs = queue_floor_drain(pointer, &roundTrips, &error, error.count)
          if jobs < 0 {
            let reason = String(decoding: error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            continuation.resume(throwing: BenchError("floor: \(reason)"))
          } else {
            continuation.resume(returning: (jobs, roundTrips))
          }
        }
      }
    }
  }
}

/// What the sessions of one drain send, as C keeps it.
private struct FloorTexts {
  let floor: UnsafeMutablePointer<queue_floor>
  private let copies: [UnsafeMutablePointer<CChar>]

  init(_ cordon: CordonQueue) throws {
    let encoder = JSONEncoder()
    let texts =
      [cordon.home.server.url(cordon.database, user: CordonDatabase.worker)]
      + ["register_worker", "claim", "start", "complete"].map(Store.sql(statement:))
      + [
        String(decoding: try encoder.encode(StartAttribution()), as: UTF8.self),
        String(decoding: try encoder.encode(AttemptReport(outcome: .succeeded)), as: UTF8.self),
      ]
    copies = texts.map { strdup($0) }
    floor = .allocate(capacity: 1)
    floor.initialize(
      to: queue_floor(
        url: copies[0], register_worker: copies[1], claim: copies[2], start: copies[3], complete: copies[4],
        batch: Int32(cordon.choice.batch), attribution: copies[5], report: copies[6]))
  }

  func free() {
    floor.deallocate()
    for copy in copies { Glibc.free(copy) }
  }
}
