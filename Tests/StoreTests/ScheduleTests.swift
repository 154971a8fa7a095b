import Foundation
import Jobs
import Postgres
import Schedules
import TestKit
import Testing

@testable import Store

/// Schedules in the database: who may, what is fired, and that it is fired once.
@Suite(.migrated) struct ScheduleTests: SchedulesInPlay {
  @Test func everyInstantIsFiredOnceByAnyNumberOfWorkers() async throws {
    let producer = try await Member.producer()
    let names = (0..<20).map { "tick-\($0)" }
    for name in names {
      try await producer.store.setSchedule(
        name, document: document("* * * * * *", #", "overlap": "queue", "missed": {"catch_up": 1000}"#))
    }
    _ = try await admin("create table public.began as select name, handled_at from cordon.schedule")
    let workers = try await workers(6)
    let end = ContinuousClock.now + .seconds(4)
    // No pause at all: as many collisions as the hardware gives.
    let (won, lost) = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
      for worker in workers {
        group.addTask {
          var (won, lost) = (0, 0)
          while ContinuousClock.now < end {
            for due in try await worker.store.dueSchedules(limit: 100) {
              if try await worker.store.fire(due, try firing(due)) == nil { lost += 1 } else { won += 1 }
            }
          }
          return (won, lost)
        }
      }
      return try await group.reduce((0, 0)) { ($0.0 + $1.0, $0.1 + $1.1) }
    }
    let missing = try await admin(
      """
      select count(*)::text from cordon.schedule s join public.began b using (name)
      cross join generate_series(date_trunc('second', b.handled_at) + interval '1 second', s.handled_at,
        interval '1 second') g (at)
      where (select count(*) from cordon.job j where j.specification -> 'labels' ->> 'schedule' = s.name
        and j.specification -> 'labels' ->> 'schedule_at'
          = to_char(g.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) <> 1
      """)
    let jobs = try #require(Int(try await admin("select count(*)::text from cordon.job")[0] ?? ""))
    #expect(missing == ["0"])
    #expect(jobs >= 40 && won >= 40 && lost > 0, "\(jobs) jobs, \(won) won, \(lost) lost")
    #expect(
      try await admin("select count(*)::text from cordon.idempotency where key like 'schedule/tick-%'") == ["\(jobs)"])
    print(
      "\(jobs) instants of \(names.count) schedules fired once by \(workers.count) workers: \(won) turns won, \(lost) lost"
    )
  }

  @Test func whatWasComputedForAnotherTurnFiresNothing() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document())
    try await age("nightly", seconds: 90)
    let due = try #require(try await worker.store.dueSchedules(limit: 10).first)
    let answer = try firing(due)
    #expect(answer.instants.count == 1)
    // Everything that changes a schedule makes what was computed before worthless.
    try await producer.store.setSchedule("nightly", document: document("30 * * * *"))
    #expect(try await worker.store.fire(due, answer) == nil)
    try await age("nightly", seconds: 90)
    let second = try #require(try await worker.store.dueSchedules(limit: 10).first)
    try await producer.store.pauseSchedule("nightly")
    #expect(try await worker.store.fire(second, answer) == nil)
    #expect(try await worker.store.dueSchedules(limit: 10) == [])
    try await producer.store.resumeSchedule("nightly")
    #expect(try await worker.store.fire(second, answer) == nil)
    try await producer.store.removeSchedule("nightly")
    #expect(try await worker.store.fire(second, answer) == nil)
    #expect(try await admin("select count(*)::text from cordon.job") == ["0"])
  }

  @Test func anInstantThatIsSettledOrToComeIsNotTakenFromAnyWorker() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document())
    try await age("nightly", seconds: 3_600)
    let due = try #require(try await worker.store.dueSchedules(limit: 10).first)
    let hour = Date(timeIntervalSince1970: (due.now.timeIntervalSince1970 / 3_600).rounded(.down) * 3_600)
    let next = hour.addingTimeInterval(3_600)
    for instants in [
      [due.handledAt], [next], [hour, hour], [hour, hour.addingTimeInterval(-60)],
      [due.handledAt.addingTimeInterval(-60)],
    ] {
      let error = try await refusal {
        try await worker.store.fire(due, Firing(instants: instants, forgone: nil, handled: due.now, next: next))
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("due: "), "\(error)")
    }
    let error = try await refusal {
      try await worker.store.fire(due, Firing(instants: [], forgone: nil, handled: next, next: nil))
    }
    #expect(error.message.hasPrefix("handled: "))
    #expect(try await admin("select count(*)::text from cordon.job") == ["0"])
    #expect(try await fireOne(worker)?.count == 1)
  }

  // MARK: - Attribution

  @Test func aRunIsOfWhoSetTheScheduleAndNamesIt() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule(
      "nightly", document: document("0 * * * *", #", "priority": 7, "gap": "after""#))
    try await age("nightly", seconds: 90)
    let job = try #require(try await fireOne(worker)?.first)
    let record = try json(try await producer.store.record(job))
    #expect(record["attribution"]?["enqueued_by"]?.string == producer.role)
    let row = try json(try #require(try await producer.store.jobs().first))
    let instant = try #require(row["labels"]?["schedule_at"]?.string)
    #expect(row["key"]?.string == "schedule/nightly/\(instant)" && row["labels"]?["schedule"]?.string == "nightly")
    #expect(row["priority"] == .integer(7) && row["state"]?.string == "queued")
    let trail = try await admin("select who::text from cordon.audit where what = 'schedule_fired'")
    #expect(trail == [worker.role])
    let detail = try #require(try await fired().first)
    #expect(detail["jobs"] == .array([.string(job.description)]) && detail["set_by"]?.string == producer.role)
    let shown = try await show(producer, "nightly")
    #expect(shown["last_job"]?.string == job.description && shown["state"]?.string == "active")
    #expect(try await worker.store.dueSchedules(limit: 10) == [])
    let wait = try #require(try await worker.store.scheduleDueIn())
    #expect(wait > 0 && wait <= 3_600)
  }

  /// The rights are those of the moment, not of when it was set.
  @Test func whatIsRefusedIsOnRecordAndTheScheduleGoesOn() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    let boss = try await Member.make("cordon_operator")
    try await boss.store.addQueue(name: "reports")
    try await producer.store.setSchedule("nightly", document: document("0 * * * *", #", "queue": "reports""#))
    func fire(_ problem: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
      try await age("nightly", seconds: 90)
      #expect(try await fireOne(worker) == [], sourceLocation: sourceLocation)
      let shown = try await show(producer, "nightly")
      #expect(shown["problem"]?.string?.hasPrefix(problem) == true, "\(shown)", sourceLocation: sourceLocation)
      #expect(shown["state"]?.string == "active", sourceLocation: sourceLocation)
      let last = try #require(try await fired().last)
      #expect(last["problem"] == shown["problem"] && last["skipped"]?.array?.count == 1, sourceLocation: sourceLocation)
    }
    try await boss.store.setQueue("reports", .draining)
    try await fire("queue: ")
    try await boss.store.setQueue("reports", .open)
    try await boss.store.addPrincipal(role: producer.role, tenant: "alpha", queues: ["default"])
    try await fire("queue: ")
    try await boss.store.addPrincipal(role: producer.role, tenant: "beta")
    try await age("nightly", seconds: 90)
    #expect(try await fireOne(worker) == [])
    #expect(try await fired().last?["problem"]?.string?.contains("acts for tenant") == true)
    try await boss.store.addPrincipal(role: producer.role, tenant: "alpha")
    try await age("nightly", seconds: 90)
    #expect(try await fireOne(worker)?.count == 1)
    #expect(try await show(producer, "nightly")["problem"] == .null)
  }

  // MARK: - Overlap

  @Test func aRunThatHasNotEndedIsNotOverlapped() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document())
    try await age("nightly", seconds: 90)
    let first = try #require(try await fireOne(worker)?.first)
    _ = try await admin("delete from cordon.idempotency returning key")
    try await age("nightly", seconds: 90)
    #expect(try await fireOne(worker) == [])
    #expect(try await fired().last?["skipped"]?.array?.count == 1)
    #expect(try await producer.store.cancel(first) == "cancelled")
    try await age("nightly", seconds: 90)
    #expect(try await fireOne(worker)?.count == 1)
  }

  @Test func whatIsCaughtUpWithRunsOneAfterTheOther() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document("0 * * * *", #", "missed": {"catch_up": 3}"#))
    try await age("nightly", seconds: 8 * 3_600)
    let jobs = try #require(try await fireOne(worker))
    #expect(jobs.count >= 3)
    let states = try await admin("select state from cordon.job j, cordon.job_state(j.id) order by j.id")
    #expect(states == ["queued"] + Array(repeating: "blocked", count: jobs.count - 1))
    let missed = try #require(try await fired().last?["missed"]?.array)
    #expect(missed.count == 2 && missed[0] != missed[1])
    let (member, id) = try await Member.worker()
    for job in jobs {
      let claims = try await member.store.claim(worker: id, limit: 10)
      #expect(claims.map(\.job) == [job])
      // Even one that fails lets the next one run.
      let report = AttemptReport(outcome: .failed(code: 1))
      #expect(try await member.store.complete(worker: id, claim: try #require(claims.first), report: report))
    }
  }

  @Test func thePreviousRunIsCancelledForTheNext() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule(
      "nightly", document: document("0 * * * *", #", "overlap": "cancel_previous", "missed": {"catch_up": 2}"#))
    try await age("nightly", seconds: 90)
    let first = try #require(try await fireOne(worker)?.first)
    let (member, id) = try await Member.worker()
    #expect(try await member.store.claim(worker: id, limit: 1).map(\.job) == [first])
    _ = try await admin("delete from cordon.idempotency returning key")
    try await age("nightly", seconds: 3 * 3_600)
    let second = try #require(try await fireOne(worker))
    #expect(second.count == 1, "of several, the last")
    #expect(try await admin("select cancel::text from cordon.lease") == ["true"])
    let detail = try #require(try await fired().last)
    #expect(detail["cancelled"] == .array([.string(first.description)]))
    #expect((detail["skipped"]?.array?.count ?? 0) >= 1)
    // One that still waits is over at once.
    _ = try await admin("delete from cordon.idempotency returning key")
    try await age("nightly", seconds: 90)
    #expect(try await fireOne(worker)?.count == 1)
    #expect(try json(try await producer.store.record(second[0]))["outcome"]?.string == "cancelled")
  }

  @Test func runsAreQueuedBesideEachOther() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule(
      "nightly", document: document("0 * * * *", #", "overlap": "queue", "missed": {"catch_up": 3}"#))
    try await age("nightly", seconds: 8 * 3_600)
    let jobs = try #require(try await fireOne(worker))
    #expect(jobs.count >= 3)
    #expect(
      try await admin("select count(*)::text from cordon.ready") == ["\(jobs.count)"])
  }

  /// Whatever becomes of the comparison: a key is one job.
  @Test func theKeyOfARunIsUsedOnce() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document("0 * * * *", #", "overlap": "queue""#))
    for expected in [1, 0] {
      try await age("nightly", seconds: 90)
      #expect(try await fireOne(worker)?.count == expected)
    }
    #expect(try await show(producer, "nightly")["problem"]?.string?.hasPrefix("the key of the run at ") == true)
    #expect(try await admin("select count(*)::text from cordon.job") == ["1"])
  }
}
