import Crypto
import FaultHistory
import Foundation
import Jobs
import Postgres

extension Fleet {
  /// Now, by the database's clock, in microseconds.
  func moment() async throws -> Int64 {
    try await ask("SELECT \(Self.micros("clock_timestamp()")) AS now").first?.get("now") ?? 0
  }

  private static func micros(_ moment: String) -> String { "(extract(epoch FROM \(moment)) * 1000000)::bigint" }

  /// Jobs that somebody still owes.
  func owed() async throws -> Int {
    try await ask(
      """
      SELECT (SELECT count(*) FROM cordon.ready) + (SELECT count(*) FROM cordon.scheduled)
        + (SELECT count(*) FROM cordon.blocked) + (SELECT count(*) FROM cordon.lease) AS owed
      """
    ).first?.get("owed") ?? 0
  }

  /// Notes of directories whose record is not settled yet: see `Publications`.
  func unsettled() -> [String] {
    workers.flatMap { worker in
      let notes = "worker-\(worker.number)/worker/publications"
      let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(directory)/\(notes)")) ?? []
      return names.map { "\(notes)/\($0)" }
    }
  }

  func history(began: Int64) async throws -> History {
    var history = History()
    history.began = began
    history.acknowledged = try ledger.read()
    history.jobs = try await ask(
      """
      SELECT j.id, j.key, \(Self.micros("j.run_at")) AS run_at, CASE WHEN j.key LIKE 'schedule/%'
        THEN \(Self.micros("(j.specification -> 'labels' ->> 'schedule_at')::timestamptz")) END AS fired_for, array(
          SELECT 'ready' FROM cordon.ready r WHERE r.job = j.id
          UNION ALL SELECT 'scheduled' FROM cordon.scheduled s WHERE s.job = j.id
          UNION ALL SELECT 'blocked' FROM cordon.blocked b WHERE b.job = j.id
          UNION ALL SELECT 'lease' FROM cordon.lease l WHERE l.job = j.id) AS places
      FROM cordon.job j
      """
    ).map {
      History.Job(
        id: try $0.get("id"), key: try $0.get("key"), runAt: try $0.get("run_at"),
        firedFor: try $0.get("fired_for"), places: try $0.get("places"))
    }
    history.attempts = try await ask(
      """
      SELECT job, attempt, final, via, outcome, token, worker, published, coalesce(artifacts, '[]')::text AS artifacts,
        \(Self.micros("started_at")) AS started_at, \(Self.micros("finished_at")) AS finished_at
      FROM cordon.attempt
      """
    ).map {
      History.Attempt(
        job: try $0.get("job"), number: try $0.get("attempt"), final: try $0.get("final"), via: try $0.get("via"),
        outcome: try $0.get("outcome"), token: try $0.get("token"), worker: try $0.get("worker"),
        startedAt: try $0.get("started_at"), finishedAt: try $0.get("finished_at"), published: try $0.get("published"),
        artifacts: try JSONDecoder().decode(
          [History.Artifact].self, from: Data(try $0.get("artifacts", as: String.self).utf8)))
    }
    history.events = try await ask(
      """
      SELECT what, job, attempt, worker, (detail ->> 'token')::bigint AS token, \(Self.micros("at")) AS at
      FROM cordon.audit WHERE job IS NOT NULL ORDER BY id
      """
    ).map {
      History.Event(
        what: try $0.get("what"), job: try $0.get("job"), attempt: try $0.get("attempt"),
        worker: try $0.get("worker"), token: try $0.get("token"), at: try $0.get("at"))
    }
    history.schedule = try await ask(
      "SELECT \(Self.micros("set_at")) AS set_at, \(Self.micros("handled_at")) AS handled_at FROM cordon.schedule"
    ).first.map {
      History.Schedule(
        period: Self.schedulePeriod, after: try $0.get("set_at"), handled: try $0.get("handled_at"))
    }
    history.directories = try directories()
    history.ended = try await moment()
    return history
  }

  /// `artifacts/TENANT/JOB/ATTEMPT`, and what is in each.
  private func directories() throws -> [History.Directory] {
    let files = FileManager.default
    func entries(_ path: String) -> [String] { ((try? files.contentsOfDirectory(atPath: path)) ?? []).sorted() }
    var found: [History.Directory] = []
    for tenant in entries(artifacts) where !tenant.hasPrefix(".") {
      for job in entries("\(artifacts)/\(tenant)") {
        for attempt in entries("\(artifacts)/\(tenant)/\(job)") {
          let path = "\(artifacts)/\(tenant)/\(job)/\(attempt)"
          let contents = try entries(path).map { name in
            let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
            return History.Artifact(
              path: name, bytes: Int64(bytes.count),
              sha256: Jobs.Digest(sha256: SHA256.hash(data: bytes)).description)
          }
          found.append(History.Directory(path: path, files: contents))
        }
      }
    }
    return found
  }
}
