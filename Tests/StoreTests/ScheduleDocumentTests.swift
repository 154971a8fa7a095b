import Foundation
import Jobs
import Postgres
import Schedules
import TestKit
import Testing

@testable import Store

/// Schedules as what their producers set, see, pause and remove.
@Suite(.migrated) struct ScheduleDocumentTests: SchedulesInPlay {
  @Test func theSameAgainChangesNothing() async throws {
    let producer = try await Member.producer()
    let colleague = try await Member.producer()
    let first = try await producer.store.setSchedule("nightly", document: document())
    #expect(first == (1, true))
    #expect(try await producer.store.setSchedule("nightly", document: document()) == (1, false))
    #expect(try await producer.store.setSchedule("nightly", document: document("5 * * * *")) == (2, true))
    // From then on its runs are the colleague's.
    #expect(try await colleague.store.setSchedule("nightly", document: document("5 * * * *")) == (3, true))
    #expect(try await show(producer, "nightly")["set_by"]?.string == colleague.role)
  }

  @Test func schedulesOfOtherTenantsDoNotExist() async throws {
    let alpha = try await Member.producer(tenant: "alpha")
    let beta = try await Member.producer(tenant: "beta")
    let boss = try await Member.make("cordon_operator")
    let bound = try await Member.make("cordon_worker")
    try await boss.store.addPrincipal(role: bound.role, tenant: "beta")
    try await alpha.store.setSchedule("nightly", document: document())
    #expect(try await beta.store.schedules() == [])
    #expect(try await boss.store.schedules().count == 1)
    for call: @Sendable () async throws -> Void in [
      { try await beta.store.pauseSchedule("nightly") }, { try await beta.store.resumeSchedule("nightly") },
      { try await beta.store.removeSchedule("nightly") },
      { try await beta.store.removeSchedule("nightly", tenant: "alpha") },
      { try await boss.store.pauseSchedule("nightly") },
    ] {
      let error = try await refusal(call)
      #expect(error.sqlState == "CD404", "\(error)")
    }
    #expect(try await bound.store.dueSchedules(limit: 10) == [])
    #expect(try await bound.store.scheduleDueIn() == nil)
    let due = try #require(try await workers(1)[0].store.dueSchedules(limit: 10).first)
    let answer = Firing(instants: [], forgone: nil, handled: due.now, next: nil)
    #expect(try await bound.store.fire(due, answer) == nil)
    try await boss.store.pauseSchedule("nightly", tenant: "alpha")
    #expect(try await show(alpha, "nightly")["state"]?.string == "paused")
    try await boss.store.removeSchedule("nightly", tenant: "alpha")
    #expect(try await alpha.store.schedules() == [])
  }

  @Test func aPauseIsNoMissedRun() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document("0 * * * *", #", "missed": {"catch_up": 9}"#))
    try await age("nightly", seconds: 8 * 3_600)
    try await producer.store.pauseSchedule("nightly")
    #expect(try await worker.store.dueSchedules(limit: 10) == [])
    try await producer.store.resumeSchedule("nightly")
    #expect(try await fireOne(worker) == [])
    #expect(try await fired() == [])
  }

  @Test func aDocumentThatNoWorkerUnderstandsIsLookedAtOnce() async throws {
    let producer = try await Member.producer()
    let worker = try await workers(1)[0]
    try await producer.store.setSchedule("nightly", document: document("61 * * * *"))
    let due = try #require(try await worker.store.dueSchedules(limit: 10).first)
    try await worker.store.breakSchedule(due, problem: "cron: minute: 61")
    #expect(try await worker.store.dueSchedules(limit: 10) == [])
    #expect(try await show(producer, "nightly")["state"]?.string == "broken")
    try await producer.store.setSchedule("nightly", document: document())
    #expect(try await worker.store.dueSchedules(limit: 10).count == 1)
    // Late, and about another document.
    try await worker.store.breakSchedule(due, problem: "cron: minute: 61")
    #expect(try await show(producer, "nightly")["state"]?.string == "active")
  }

  @Test func whatIsNoScheduleIsRefused() async throws {
    let producer = try await Member.producer()
    let refused = [
      (#"{"cron": "0 * * * *", "specification": {}}"#, "zone: is missing"),
      (#"{"zone": "UTC", "specification": {}}"#, "cron: is missing"),
      (#"{"cron": "0 * * * *", "zone": "UTC"}"#, "specification: must be a JSON object"),
      (#"{"cron": "0 * * * *", "zone": "UTC", "timezone": "UTC"}"#, "schedule.timezone: unknown member"),
      (#"[]"#, "schedule: must be a JSON object"),
      (#"{"#, "specification: is no JSON"),
      (#"{"cron": "0 * * * *", "zone": "UTC", "overlap": "replace", "specification": {}}"#, "overlap: \"replace\""),
      (#"{"cron": "0 * * * *", "zone": "UTC", "priority": 10, "specification": {}}"#, "priority: 10 is not 0 to 9"),
      (#"{"cron": "0 * * * *", "zone": "UTC", "priority": "4", "specification": {}}"#, "priority: \"4\" is not 0 to 9"),
      (#"{"cron": "0 * * * *", "zone": "UTC", "queue": "nowhere", "specification": {}}"#, "queue: "),
      (#"{"cron": "0 * * * *", "zone": "UTC", "specification": {"runtime": "perl"}}"#, "specification.runtime: "),
      (
        #"{"cron": "0 * * * *", "zone": "UTC", "specification": {"runtime": "bash"}}"#, "specification.code: is missing"
      ),
      (
        #"{"cron": "0 * * * *", "zone": "UTC", "specification": {"runtime": "bash", "code": "1", "labels": {"schedule": "x"}}}"#,
        "specification.labels: schedule and schedule_at"
      ),
      (
        #"{"cron": "0 * * * *", "zone": "UTC", "specification": {"runtime": "bash", "code": "1", "labels": []}}"#,
        "specification.labels: must be an object"
      ),
      (
        #"{"cron": "0 * * * *", "zone": "UTC", "specification": {"runtime": "bash", "code": "1", "retry": {}}}"#,
        "specification.retry.attempts: is missing"
      ),
    ]
    for (document, message) in refused {
      let error = try await refusal { try await producer.store.setSchedule("nightly", document: document) }
      #expect(error.message.hasPrefix(message), "\(document): \(error.message)")
    }
    for name in ["", "a b", "-x", String(repeating: "a", count: 64)] {
      let error = try await refusal { try await producer.store.setSchedule(name, document: document()) }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("name: "))
    }
    #expect(try await producer.store.schedules() == [])
  }
}
