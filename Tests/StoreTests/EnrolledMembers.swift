import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// A verifier of no password that anybody knows; each `salt` makes another.
func verifier(_ salt: Character = "A") -> String {
  "SCRAM-SHA-256$4096:\(String(repeating: salt, count: 22))==$\(String(repeating: "B", count: 43))=:"
    + "\(String(repeating: "C", count: 43))="
}

extension Member {
  /// The login of a join token.
  static func invited(
    tenant: String? = nil, queues: [String]? = nil, expires: Double = 600, life: Double = 3_600
  ) async throws -> Member {
    let boss = try await make("cordon_operator")
    let token = try await boss.store.createJoinToken(
      tenant: tenant, queues: queues, expires: expires, life: life, verifier: verifier())
    await boss.pool.close()
    return Member(role: token.role, pool: Database.current.pool(user: token.role, maximum: 2))
  }

  /// Whom this token makes.
  func enrolled(name: String = "rack-7") async throws -> Member {
    let identity = try await store.enrol(name: name, verifier: verifier("D"))
    return Member(role: identity.role, pool: Database.current.pool(user: identity.role, maximum: 2))
  }

  func registered(name: String = "rack-7", queues: [String] = ["default"]) async throws -> Int64 {
    try await store.registerWorker(
      name: name, host: "host.example", build: "b", queues: queues, slots: 4, leaseSeconds: 30)
  }

  /// Moves the end of this identity to so many seconds from now.
  func expire(seconds: Int) async throws {
    _ = try await admin(
      "update cordon.principal set expires_at = now() + make_interval(secs => $2::int) where role = $1 returning 1::text",
      [Parameter(role), Parameter(seconds)])
  }

  /// Whether it may log in, is a superuser, may create roles and databases, pass row security, replicate; and its groups.
  func loginFacts() async throws -> String? {
    try await admin(
      """
      select concat_ws(' ', rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication,
        (select string_agg(g.rolname, ',') from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid))
      from pg_roles r where rolname = $1
      """, [Parameter(role)]
    ).first ?? nil
  }
}

/// A worker that came by a token, registered as rack-7, with a job that runs and one that waits.
struct EnrolledScene {
  let boss: Member
  let producer: Member
  let member: Member
  let id: Int64
  let running: Claim
  let waiting: JobID

  var store: Store { member.store }
  var held: [(job: JobID, token: Int64)] { [(running.job, running.token)] }

  init() async throws {
    member = try await Member.invited().enrolled()
    producer = try await Member.producer()
    boss = try await Member.make("cordon_operator")
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    id = try await member.registered()
    running = try #require(try await member.store.claim(worker: id, limit: 1).first)
    #expect(try await member.store.start(worker: id, plain([running])) == [running.job])
    waiting = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
  }
}
