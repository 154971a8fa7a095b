import Foundation
import Jobs
import Store

/// Follows one job to its end: prints what it writes, in order, and waits for the final record.
struct Follower {
  let store: Store
  let job: JobID
  /// nil: the newest attempt, going on with the next one when an attempt is lost.
  var attempt: Int?
  /// Called for each piece of output.
  var output: (Store.LogChunk) -> Void = { _ in }
  /// Called when the job starts, moves to another attempt, or has waited for a while.
  var progress: (Progress) -> Void = { _ in }

  enum Progress {
    case attempt(Int)
    /// Still queued after `waitingNotice`.
    case waiting
  }

  /// Shortest and longest pause between two looks. The longest keeps a follower's delay below what a person
  /// notices; the shortest keeps a short job's answer from waiting.
  static let pauses = (shortest: Duration.milliseconds(10), longest: Duration.milliseconds(200))
  static let waitingNotice = Duration.seconds(5)
  /// Pieces asked for at once.
  static let batch = 64

  /// Returns the final record.
  func untilFinished() async throws -> JSONValue {
    var sequence: Int64 = 0
    var following: Int?
    var pause = Self.pauses.shortest
    let began = ContinuousClock.now
    var noticed = false
    while true {
      // The record first: when it says finished, every piece of output was stored before.
      let record = try parseRecord(try await store.record(job, attempt: attempt))
      let state = record["state"]?.string ?? ""
      if let current = record["attempt"]?.integer.map(Int.init),
        !["blocked", "held", "queued", "scheduled"].contains(state)
      {
        if following != current {
          following = current
          sequence = 0
          progress(.attempt(current))
        }
        let printed = try await drain(current, after: &sequence)
        pause = printed ? Self.pauses.shortest : min(pause * 2, Self.pauses.longest)
      } else {
        pause = min(pause * 2, Self.pauses.longest)
        if !noticed, ContinuousClock.now - began > Self.waitingNotice {
          noticed = true
          progress(.waiting)
        }
      }
      if state == "finished" { return record }
      try await Task.sleep(for: pause)
    }
  }

  private func drain(_ attempt: Int, after sequence: inout Int64) async throws -> Bool {
    var printed = false
    while true {
      let chunks = try await store.logs(job, attempt: attempt, after: sequence, limit: Self.batch)
      for chunk in chunks {
        output(chunk)
        sequence = chunk.sequence
        printed = true
      }
      if chunks.count < Self.batch { return printed }
    }
  }
}

/// A record as the database gives it.
func parseRecord(_ text: String) throws -> JSONValue {
  try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
}
