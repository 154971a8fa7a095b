import FoundationEssentials
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// A login role in the database of the running test, and the store as that role sees it.
struct Member {
  let role: String
  let pool: Pool
  var store: Store { Store(pool: pool) }

  static func make(_ groups: String..., maximum: Int = 2) async throws -> Member {
    let role = try await Database.current.makeRole(in: groups)
    return Member(role: role, pool: Database.current.pool(user: role, maximum: maximum))
  }

  /// A producer of a tenant.
  static func producer(tenant: String = "alpha") async throws -> Member {
    let member = try await make("cordon_producer")
    try await superuser.store.addPrincipal(role: member.role, tenant: tenant)
    return member
  }

  static var superuser: Member {
    Member(role: "postgres", pool: Database.current.pool(maximum: 1))
  }

  /// A worker that serves `queues`, registered.
  static func worker(
    queues: [String] = ["default"], slots: Int = 100, leaseSeconds: Double = 30
  ) async throws -> (member: Member, id: Int64) {
    let member = try await make("cordon_worker")
    let id = try await member.store.registerWorker(
      name: "w", host: "host.example", build: "sha256:build", queues: queues, slots: slots, leaseSeconds: leaseSeconds)
    return (member, id)
  }

  /// Runs SQL and returns the first column as text; nil stands for NULL.
  func column(_ sql: String, _ parameters: [Parameter] = []) async throws -> [String?] {
    let rows = try await pool.query(Statement(name: sql, sql: sql), parameters)
    return try rows.map { try $0.get(at: 0, as: String?.self) }
  }
}

/// Runs SQL as the superuser, who sees the tables.
func admin(_ sql: String, _ parameters: [Parameter] = []) async throws -> [String?] {
  let member = Member.superuser
  let rows = try await member.column(sql, parameters)
  await member.pool.close()
  return rows
}

/// Makes every lease look as if it had been claimed `seconds` ago.
func age(leasesTo seconds: Int) async throws {
  _ = try await admin(
    "update cordon.lease set claimed_at = clock_timestamp() - make_interval(secs => $1::int) returning job::text",
    [Parameter(seconds)])
}

/// The error a call is refused with; records an issue when it is not refused.
func refusal<Value>(
  sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Value
) async throws -> PostgresError {
  do {
    _ = try await body()
  } catch let error as PostgresError {
    return error
  }
  Issue.record("was not refused", sourceLocation: sourceLocation)
  throw PostgresError(.usage, "was not refused")
}

/// A record or list entry as a value.
func json(_ text: String) throws -> JSONValue {
  try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
}

/// Claims to start of which nothing else is known.
func plain(_ claims: [Claim]) -> [(claim: Claim, attribution: StartAttribution)] {
  claims.map { ($0, StartAttribution()) }
}

let sleepJob = #"{"runtime": "bash", "code": "sleep 1"}"#

extension AttemptReport {
  static func succeeded(_ result: JSONValue? = nil) -> AttemptReport {
    AttemptReport(
      outcome: .succeeded, result: result, stdout: StreamFacts(bytes: 12, truncated: true),
      usage: Usage(wallSeconds: 0.25, cpuSeconds: 0.125, memoryPeakBytes: 4096, outputBytes: 7))
  }
}
