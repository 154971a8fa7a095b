import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// The database and the Swift side read one and the same spelling of sizes and durations.
@Suite(.migrated) struct QuantityTests {
  private static let numbers = [
    "", "0", "1", "007", "5", "300", "999999", "0000000000000000000000000000042", "9223372036854775807",
    "9223372036854775808", "8388607", "8388608", "106751991167", "18446744073709551616", "-1", "+1", " 1", "1 ", "1.5",
    "1e3", "１", "٣", "0x10",
  ]
  private static let suffixes = [
    "", "B", "b", "KiB", "MiB", "GiB", "TiB", "kB", "KB", "MB", "GB", "TB", "K", "M", "ms", "s", "m", "h", "d", "S",
    "min", " s", "s ", "\n", "ms\n", "é", "B B", "'", "\\",
  ]

  private static let spellings = numbers.flatMap { number in suffixes.map { number + $0 } }

  @Test func sizesAgree() async throws {
    let read = try await admin(
      "select cordon.parse_size(t)::text from unnest($1::text[]) with ordinality u (t, n) order by n",
      [Parameter(Self.spellings)])
    #expect(read.count == Self.spellings.count)
    var good = 0
    for (spelling, database) in zip(Self.spellings, read) {
      let swift = ByteCount(spelling)?.bytes
      #expect(database.flatMap { Int64($0) } == swift, "\(spelling.debugDescription)")
      if swift != nil { good += 1 }
    }
    #expect(good > 40, "the table must hold good spellings too")
  }

  @Test func durationsAgree() async throws {
    let read = try await admin(
      "select cordon.parse_duration(t)::text from unnest($1::text[]) with ordinality u (t, n) order by n",
      [Parameter(Self.spellings)])
    var good = 0
    for (spelling, database) in zip(Self.spellings, read) {
      let swift = TimeSpan(spelling)?.milliseconds
      #expect(database.flatMap { Int64($0) } == swift, "\(spelling.debugDescription)")
      if swift != nil { good += 1 }
    }
    #expect(good > 25, "the table must hold good spellings too")
  }

  @Test func limitsAreNormalised() async throws {
    let producer = try await Member.producer()
    let asked = """
      {"wall": "90s", "grace": "500ms", "memory": "1GiB", "cpus": 0.25, "pids": 7, "output": 1000, "files": 3,
       "tmp": "1kB", "stdout": "2KiB", "result": "10B"}
      """
    _ = try await producer.store.enqueue(
      queue: "default", specification: #"{"runtime": "exec", "argv": ["/bin/true"], "limits": \#(asked)}"#)
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(
      claim.limits
        == Limits(
          wallMilliseconds: 90_000, graceMilliseconds: 500, memoryBytes: 1 << 30, cpuMillis: 250, pids: 7,
          outputBytes: 1000, outputFiles: 3, temporaryBytes: 1000, streamBytes: 2048, resultBytes: 10))
  }

  @Test func defaultsAreThoseOfTheLimitsType() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(claim.limits == Limits())
  }
}
