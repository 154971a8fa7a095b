import Foundation
import Jobs
import Postgres
import Schedules
import TestKit
import Testing

@testable import Store

/// What the tests of schedules do in one line.
protocol SchedulesInPlay {}

extension SchedulesInPlay {
  /// A document with members besides those it needs.
  func document(_ cron: String = "0 * * * *", _ members: String = "") -> String {
    #"{"cron": "\#(cron)", "zone": "UTC", "specification": \#(sleepJob)\#(members)}"#
  }

  /// A worker's side, without a worker.
  func workers(_ count: Int) async throws -> [Member] {
    var members: [Member] = []
    for _ in 0..<count { members.append(try await Member.make("cordon_worker", maximum: 1)) }
    return members
  }

  /// What a worker does about a schedule.
  func firing(_ due: Store.DueSchedule) throws -> Firing {
    let document = try ScheduleDocument(due.document)
    return document.schedule.firing(handled: due.handledAt, now: due.now, missed: document.missed)
  }

  /// Makes it as if a schedule had been set, or settled, so many seconds ago, and due now.
  func age(_ name: String, seconds: Int) async throws {
    _ = try await admin(
      """
      update cordon.schedule set handled_at = date_trunc('hour', clock_timestamp()) - make_interval(secs => $2::int),
        next_at = clock_timestamp() where name = $1 returning name
      """, [Parameter(name), Parameter(seconds)])
  }

  func fireOne(_ worker: Member) async throws -> [JobID]? {
    let due = try #require(try await worker.store.dueSchedules(limit: 10).first)
    return try await worker.store.fire(due, try firing(due))
  }

  func show(_ member: Member, _ name: String) async throws -> JSONValue {
    try json(try #require(try await member.store.schedules(name: name).first))
  }

  /// Details of what the audit trail has of firings, in order.
  func fired() async throws -> [JSONValue] {
    try await admin("select detail::text from cordon.audit where what = 'schedule_fired' order by id")
      .map { try json($0 ?? "") }
  }
}
