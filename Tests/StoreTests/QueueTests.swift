import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

@Suite(.migrated) struct QueueTests {
  @Test func cancelOfAWaitingJobIsFinal() async throws {
    let producer = try await Member.producer()
    let queued = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let later = try await producer.store.enqueue(
      queue: "default", specification: sleepJob, runAt: Date(timeIntervalSinceNow: 3600)
    ).job
    #expect(try json(try await producer.store.record(later))["state"]?.string == "scheduled")
    for job in [queued, later] {
      #expect(try await producer.store.cancel(job) == "cancelled")
      #expect(try await producer.store.cancel(job) == "finished")
      let record = try json(try await producer.store.record(job))
      #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "cancelled")
      #expect(record["attempt"] == .integer(1) && record["attribution"]?["worker"] == .null)
    }
    let worker = try await Member.worker()
    #expect(try await worker.member.store.claim(worker: worker.id, limit: 10).isEmpty)
  }

  @Test func cancelOfARunningJobReachesItsWorker() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let claim = try #require(try await member.store.claim(worker: id, limit: 1).first)
    var heard = member.store.notifications(["cordon_cancel"]).makeAsyncIterator()
    // The listener connects on its own time; a cancel of a nobody is asked for until one is heard.
    let listening = Task {
      while !Task.isCancelled {
        _ = try await admin("select pg_notify('cordon_cancel', 'ready?')::text")
        try await Task.sleep(for: .milliseconds(20))
      }
    }
    #expect(await heard.next()?.payload == "ready?")
    listening.cancel()
    _ = await listening.result

    #expect(try await producer.store.cancel(job) == "cancelling")
    #expect(try await producer.store.cancel(job) == "cancelling")
    var payload = await heard.next()?.payload
    while payload == "ready?" { payload = await heard.next()?.payload }
    #expect(payload == job.description)
    #expect(try await member.store.heartbeat(worker: id, held: [(job, claim.token)]) == [claim.token: .cancel])
    #expect(try await member.store.start(worker: id, plain([claim])).isEmpty, "a cancelled job does not begin")
    #expect(try await member.store.complete(worker: id, claim: claim, report: AttemptReport(outcome: .cancelled)))
    #expect(try await producer.store.cancel(job) == "finished")
    #expect(try await admin("select count(*) from cordon.audit where what = 'cancel_requested'") == ["1"])
  }

  @Test func cancelledJobOfADeadWorkerDoesNotRunAgain() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    let claims = try await member.store.claim(worker: id, limit: 1)
    #expect(try await member.store.start(worker: id, plain(claims)) == [job])
    #expect(try await producer.store.cancel(job) == "cancelling")
    try await member.store.retireWorker(id)
    #expect(try await member.store.rescue(limit: 1) == 1)
    let record = try json(try await producer.store.record(job))
    #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "lost")
    #expect(record["reason"]?.string?.contains("cancelled") == true)
  }

  /// Of an attempt that never started it is known how it ended.
  @Test func cancelledJobThatNeverStartedIsCancelled() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    let (member, id) = try await Member.worker()
    #expect(try await member.store.claim(worker: id, limit: 1).count == 1)
    #expect(try await producer.store.cancel(job) == "cancelling")
    try await member.store.retireWorker(id)
    #expect(try await member.store.rescue(limit: 1) == 1)
    let record = try json(try await producer.store.record(job))
    #expect(record["state"]?.string == "finished" && record["outcome"]?.string == "cancelled")
    #expect(record["started_at"] == .null)
  }

  @Test func timesWithoutMeaningAreRefused() async throws {
    let producer = try await Member.producer()
    let century = 100 * 365.25 * 86_400
    let error = try await refusal {
      try await producer.store.enqueue(
        queue: "default", specification: sleepJob, runAt: Date(timeIntervalSinceNow: century + 86_400 * 2))
    }
    #expect(error.sqlState == "22023" && error.message.hasPrefix("run_at: "))
    _ = try await producer.store.enqueue(
      queue: "default", specification: sleepJob, runAt: Date(timeIntervalSinceNow: century - 86_400 * 2))
  }

  @Test func attemptsBeyondEveryNumberDoNotExist() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    for attempt in [99_999_999_999, .max, .min, 0] {
      let error = try await refusal { try await producer.store.record(job, attempt: attempt) }
      #expect(error.sqlState == "CD404" && error.message.hasPrefix("attempt: "), "\(error)")
      #expect(try await producer.store.logs(job, attempt: attempt).isEmpty)
    }
  }

  @Test func manyAreOneList() async throws {
    let producer = try await Member.producer()
    for list in ["array[[a, a], [a, a]]", "null::jsonb[]"] {
      let error = try await refusal {
        try await producer.column(
          "select cordon.enqueue_many('default', \(list))::text from (select $1::jsonb) s (a)",
          [Parameter(sleepJob)])
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("specifications: "), "\(error)")
    }
    #expect(try await producer.column("select cordon.enqueue_many('default', '{}')::text") == ["{}"])
    #expect(try await producer.store.enqueueMany(queue: "default", specifications: []) == [])
    #expect(try await producer.store.jobs() == [])
  }

  /// The job's numbers are the caller's, digit for digit.
  /// As the queue's page says: COPY into a table of one's own, and one call, in one transaction.
  @Test func bulkComesByCopy() async throws {
    let producer = try await Member.producer()
    let connection = try await Connection.connect(Database.current.settings(user: producer.role))
    try await connection.execute(
      script: "begin; create temp table mine (specification jsonb) on commit drop")
    let lines = (0..<2_000).map { [Parameter(#"{"runtime": "bash", "code": "x", "args": ["\#($0)"]}"#)] }
    #expect(try await connection.copyIn("COPY mine FROM STDIN", rows: lines) == 2_000)
    try await connection.execute(
      script: "select cordon.enqueue_many('default', array(select specification from mine order by ctid)); commit")
    await connection.close()
    let (member, id) = try await Member.worker()
    let claims = try await member.store.claim(worker: id, limit: 100)
    #expect(claims.compactMap { $0.specification?.args.first } == (0..<100).map { String($0) })
    #expect(try await admin("select count(*) from cordon.ready") == ["1900"])
  }

  @Test func parametersAreHandedOutExactly() async throws {
    let producer = try await Member.producer()
    let params = #"{"a": 12345678901234567890, "b": 1.10, "c": 0.1234567890123456789}"#
    for text in [params, "null", nil] {
      let member = text.map { #", "params": \#($0)"# } ?? ""
      _ = try await producer.store.enqueue(
        queue: "default", specification: #"{"runtime": "bash", "code": ""\#(member)}"#)
    }
    let (member, id) = try await Member.worker()
    let claims = try await member.store.claim(worker: id, limit: 3)
    #expect(claims.map(\.paramsText) == [params, nil, nil])
  }

  @Test func keysAreIdempotent() async throws {
    let producer = try await Member.producer(tenant: "alpha")
    let colleague = try await Member.producer(tenant: "alpha")
    let stranger = try await Member.producer(tenant: "beta")
    let first = try await producer.store.enqueue(queue: "default", specification: sleepJob, key: "k")
    #expect(first.created)
    // The same request, spelled differently, from another session of the tenant.
    let respelled = #"{"code":"sleep 1","runtime":"bash"}"#
    #expect(
      try await colleague.store.enqueue(queue: "default", specification: respelled, key: "k")
        == Enqueued(job: first.job, created: false))
    for (specification, priority) in [(#"{"runtime": "bash", "code": "sleep 2"}"#, 4), (sleepJob, 5)] {
      let error = try await refusal {
        try await producer.store.enqueue(queue: "default", specification: specification, key: "k", priority: priority)
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("key: "))
    }
    let other = try await stranger.store.enqueue(queue: "default", specification: sleepJob, key: "k")
    #expect(other.created && other.job != first.job)
    #expect(try await admin("select count(*) from cordon.job") == ["2"])
  }

  @Test func concurrentRequestsWithOneKeyMakeOneJob() async throws {
    let producer = try await Member.producer()
    let crowd = Member(role: producer.role, pool: Database.current.pool(user: producer.role, maximum: 8))
    let answers = try await withThrowingTaskGroup(of: Enqueued.self) { group in
      for _ in 0..<40 {
        group.addTask { try await crowd.store.enqueue(queue: "default", specification: sleepJob, key: "same") }
      }
      return try await group.reduce(into: [Enqueued]()) { $0.append($1) }
    }
    #expect(Set(answers.map(\.job)).count == 1)
    #expect(answers.filter(\.created).count == 1)
    #expect(try await admin("select count(*) from cordon.ready") == ["1"])
  }

  /// Enqueue lives and dies with the producer's own transaction.
  @Test func enqueueIsPartOfTheCallersTransaction() async throws {
    let producer = try await Member.producer()
    try await producer.pool.withConnection { connection in
      try await connection.execute(
        script: """
          begin; select cordon.enqueue('default', '{"runtime": "bash", "code": "true"}', key => 'gone'); rollback;
          begin; select cordon.enqueue('default', '{"runtime": "bash", "code": "true"}', key => 'kept'); commit
          """)
    }
    let jobs = try await producer.store.jobs()
    #expect(try jobs.map { try json($0)["key"]?.string } == ["kept"])
  }

  @Test func dueJobsArePromoted() async throws {
    let producer = try await Member.producer()
    let due = try await producer.store.enqueue(
      queue: "default", specification: sleepJob, runAt: Date(timeIntervalSinceNow: 3600)
    ).job
    let past = try await producer.store.enqueue(
      queue: "default", specification: sleepJob, runAt: Date(timeIntervalSinceNow: -60)
    ).job
    let (member, id) = try await Member.worker()
    #expect(try await member.store.claim(worker: id, limit: 10).map(\.job) == [past])
    _ = try await admin("update cordon.scheduled set run_at = now() - interval '1 second' returning job::text")
    #expect(try await member.store.claim(worker: id, limit: 10).map(\.job) == [due])
  }

  /// Producers notify when a worker is idle, and only then.
  @Test func notifiesOnlyIdleWorkers() async throws {
    let producer = try await Member.producer()
    let (member, id) = try await Member.worker()
    let idle = "select exists (select from cordon.idle where worker = \(id))::text"
    let listener = try await Database.current.connect()
    try await listener.listen("cordon_ready")
    var heard = listener.notifications.makeAsyncIterator()

    #expect(try await admin(idle) == ["false"])
    let first = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    #expect(try await member.store.claim(worker: id, limit: 1).map(\.job) == [first])
    #expect(try await admin(idle) == ["false"], "a claim that got all it asked for does not idle")
    #expect(try await member.store.claim(worker: id, limit: 1).isEmpty)
    #expect(try await admin(idle) == ["true"])
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    // The first one heard is the one for the second job: nothing was sent for the first.
    #expect(await heard.next()?.payload == "default")
    #expect(try await admin(idle) == ["false"], "one notification wakes it; others need none")
    #expect(try await member.store.claim(worker: id, limit: 1).count == 1)
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    _ = try await admin("select pg_notify('cordon_ready', 'end')::text")
    #expect(await heard.next()?.payload == "end")
    await listener.close()
  }

  /// However long a worker is idle, and whoever dies idle.
  @Test func idleWorkersLeaveOneRowAQueue() async throws {
    let (member, id) = try await Member.worker(leaseSeconds: 0.2)
    for _ in 0..<6 {
      #expect(try await member.store.claim(worker: id, limit: 1).isEmpty)
      #expect(try await admin("select count(*) from cordon.idle") == ["1"])
      try await Task.sleep(for: .milliseconds(110))
    }
    try await Task.sleep(for: .milliseconds(200))
    _ = try await member.store.rescue(limit: 10)
    #expect(try await admin("select count(*) from cordon.idle") == ["0"])
  }

  @Test func jobsAreListedByStateAndQueue() async throws {
    let producer = try await Member.producer()
    try await Member.superuser.store.addQueue(name: "other")
    let (member, id) = try await Member.worker()
    func enqueue(_ queue: String, at: Date? = nil) async throws -> JobID {
      try await producer.store.enqueue(queue: queue, specification: sleepJob, runAt: at).job
    }
    let finished = try await enqueue("default")
    let running = try await enqueue("default")
    let claims = try await member.store.claim(worker: id, limit: 2)
    #expect(try await member.store.complete(worker: id, claim: claims[0], report: .succeeded()))
    let queued = try await enqueue("default")
    let elsewhere = try await enqueue("other")
    let scheduled = try await enqueue("default", at: Date(timeIntervalSinceNow: 60))
    func list(_ state: String?, queue: String? = nil, limit: Int = 100) async throws -> [String?] {
      try await producer.store.jobs(state: state, queue: queue, limit: limit).map { try json($0)["job"]?.string }
    }
    let all = [scheduled, elsewhere, queued, running, finished].map(\.description)
    #expect(try await list(nil) == all)
    #expect(try await list(nil, limit: 2) == Array(all.prefix(2)))
    #expect(try await list("scheduled") == [scheduled.description])
    #expect(try await list("queued") == [elsewhere, queued].map(\.description))
    #expect(try await list("queued", queue: "other") == [elsewhere.description])
    #expect(try await list("running") == [running.description])
    #expect(try await list("finished") == [finished.description])
    let entry = try json(try await producer.store.jobs(state: "finished")[0])
    #expect(entry["outcome"]?.string == "succeeded" && entry["runtime"]?.string == "bash")
    #expect(entry["enqueued_by"]?.string == producer.role && entry["attempt"] == .integer(1))
    let state = try await refusal { try await producer.store.jobs(state: "lost") }
    #expect(state.sqlState == "22023" && state.message.hasPrefix("state: "))
    let limit = try await refusal { try await producer.store.jobs(limit: 0) }
    #expect(limit.sqlState == "22023" && limit.message.hasPrefix("limit: "))
  }

  /// Neither the session's time zone nor its formats reach what is recorded.
  @Test func recordsDoNotDependOnTheSession() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(
      queue: "default", specification: #"{"runtime": "bash", "code": "", "limits": {"cpus": 0.5}}"#,
      runAt: Date(timeIntervalSince1970: 1_900_000_000.25)
    ).job
    let sql = "select cordon.record($1::uuid)::text || (select j::text from cordon.jobs() j)"
    let plain = try await producer.column(sql, [Parameter(job.description)])
    let odd = try await producer.pool.withConnection { connection in
      try await connection.execute(
        script: """
          set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard';
          set bytea_output = 'escape'; set extra_float_digits = 0; set standard_conforming_strings = off;
          set search_path = ''; set default_transaction_read_only = on
          """)
      defer { Task { await connection.close() } }
      return try await connection.query(Statement(name: "odd", sql: sql), [Parameter(job.description)])
        .map { try $0.get(at: 0, as: String?.self) }
    }
    #expect(odd == plain)
    #expect(plain[0]?.contains("\"run_at\": \"2030-03-17T17:46:40.250000Z\"") == true)
  }

  @Test func registrationIsChecked() async throws {
    let store = try await Member.make("cordon_worker").store
    for (queues, slots, seconds, field) in [
      ([], 1, 30.0, "queues"), (["default"], 0, 30, "slots"), (["default"], 1, 0, "lease_seconds"),
      (["default"], 1, .infinity, "lease_seconds"), (["default"], 1, .nan, "lease_seconds"),
    ] as [([String], Int, Double, String)] {
      let error = try await refusal {
        try await store.registerWorker(
          name: "w", host: "h", build: "b", queues: queues, slots: slots, leaseSeconds: seconds)
      }
      #expect(error.sqlState == "22023" && error.message.hasPrefix("\(field): "), "\(error)")
    }
  }

  /// A heartbeat costs one update that touches no index, but for the few that find their page full.
  @Test func heartbeatsAreHOT() async throws {
    let (member, id) = try await Member.worker()
    for _ in 0..<50 { _ = try await member.store.heartbeat(worker: id, held: []) }
    await member.pool.close()
    #expect(try await hotUpdates(of: "worker", among: 50) >= 45)
  }

  /// Nor do the start of an attempt, with the attribution it adds to the row, and its cancel.
  @Test func startsAndCancelsAreHOT() async throws {
    let producer = try await Member.producer()
    let jobs = try await producer.store.enqueueMany(
      queue: "default", specifications: Array(repeating: sleepJob, count: 100))
    let (member, id) = try await Member.worker()
    let claims = try await member.store.claim(worker: id, limit: 100)
    let digest = try #require(claims.first).policy
    let facts = StartAttribution(
      code: digest, inputs: [InputFacts(name: "prices.csv", sha256: digest, bytes: 7)],
      isolation: Isolation(
        cgroup: "hybrid", namespaces: ["mnt", "pid", "net", "ipc", "uts", "cgroup"], filter: digest, uid: nil))
    #expect(try await member.store.start(worker: id, claims.map { ($0, facts) }).count == 100)
    for job in jobs.prefix(20) { #expect(try await producer.store.cancel(job) == "cancelling") }
    await member.pool.close()
    await producer.pool.close()
    let hot = try await hotUpdates(of: "lease", among: 120)
    #expect(hot >= 115)
  }

  /// How many of a table's updates touched no index, once all of them are counted: sessions report when they end, and
  /// the reader may be ahead of them.
  private func hotUpdates(of table: String, among updates: Int) async throws -> Int {
    func counts() async throws -> [Int] {
      try await admin(
        "select unnest(array[n_tup_upd, n_tup_hot_upd])::text from pg_stat_user_tables where relname = $1",
        [Parameter(table)]
      ).compactMap { $0.flatMap { Int($0) } }
    }
    var seen = try await counts()
    for _ in 0..<200 where seen.first != updates {
      try await Task.sleep(for: .milliseconds(20))
      seen = try await counts()
    }
    #expect(seen.first == updates, "\(seen)")
    return seen.last ?? 0
  }
}
