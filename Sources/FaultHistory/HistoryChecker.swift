/// Judges a history. Each promise is a function of its own; what it finds names the job, so that a person can look.
public struct HistoryChecker: Sendable {
  public enum Promise: String, Sendable, CaseIterable {
    case kept = "an acknowledged job exists, under its key alone"
    case endsOnce = "a job ends exactly once or is owed in exactly one place"
    case ended = "once all is well again, every acknowledged job ends"
    case numbered = "attempts are numbered without gaps, and the last one alone is final"
    case oneValid = "no two attempts of a job were valid at once"
    case leased = "nothing is recorded for a worker without its lease"
    case published = "outputs published equal outputs recorded"
    case cancelled = "nothing runs that was cancelled before its claim"
    case scheduled = "nothing runs before its time, or before what it waits for is over"
    case fired = "a schedule fires exactly once for every instant"
    case outcome = "a job ends as its program does, or as lost"
    case clock = "the database's clock alone is recorded"
  }

  public struct Finding: Sendable, CustomStringConvertible {
    public var promise: Promise
    public var detail: String

    public var description: String { "broken: \(promise.rawValue): \(detail)" }
  }

  private let history: History
  private let attempts: [String: [History.Attempt]]
  private let events: [String: [History.Event]]
  private let told: [String: History.Acknowledged]

  public init(_ history: History) {
    self.history = history
    attempts = Dictionary(grouping: history.attempts, by: \.job).mapValues { $0.sorted { $0.number < $1.number } }
    events = Dictionary(grouping: history.events, by: \.job)
    told = Dictionary(history.acknowledged.map { ($0.job, $0) }, uniquingKeysWith: { first, _ in first })
  }

  public func check() -> [Finding] {
    var findings: [Finding] = []
    func note(_ promise: Promise, _ problems: [String]) {
      findings += problems.map { Finding(promise: promise, detail: $0) }
    }
    note(.kept, kept())
    note(.ended, unended())
    note(.published, published())
    note(.fired, fired())
    note(.outcome, outcomes())
    note(.clock, clocks())
    for job in history.jobs {
      let rows = attempts[job.id] ?? []
      let about = events[job.id] ?? []
      note(.endsOnce, endsOnce(job, rows))
      note(.numbered, numbered(job, rows))
      note(.oneValid, oneValid(job, rows, about))
      note(.leased, leased(job, rows, about))
      note(.cancelled, cancelled(job, rows, about))
      note(.scheduled, scheduled(job, about))
    }
    return findings
  }

  // MARK: The whole

  private func kept() -> [String] {
    let ids = Set(history.jobs.map(\.id))
    var problems = history.acknowledged.filter { !ids.contains($0.job) }.map { "job \($0.job) is gone" }
    for (key, jobs) in Dictionary(grouping: history.jobs.filter { $0.key != nil }, by: { $0.key! }) where jobs.count > 1
    {
      problems.append("key \(key) has jobs \(jobs.map(\.id).joined(separator: ", "))")
    }
    let keys = Dictionary(history.jobs.map { ($0.id, $0.key) }, uniquingKeysWith: { first, _ in first })
    for told in history.acknowledged {
      if let key = keys[told.job], key != told.key { problems.append("job \(told.job) is not that of \(told.key)") }
    }
    return problems
  }

  private func unended() -> [String] {
    let over = Set(history.attempts.filter(\.final).map(\.job))
    return history.acknowledged.filter { !over.contains($0.job) }.map { "job \($0.job) (\($0.kind)) has not ended" }
  }

  private func published() -> [String] {
    var problems: [String] = []
    let lying = Dictionary(history.directories.map { ($0.path, $0.files) }, uniquingKeysWith: { first, _ in first })
    var recorded = Set<String>()
    for row in history.attempts {
      guard let path = row.published else { continue }
      recorded.insert(path)
      guard let files = lying[path] else {
        problems.append("job \(row.job), attempt \(row.number): \(path) is recorded and not there")
        continue
      }
      if Set(files) != Set(row.artifacts) {
        problems.append("job \(row.job), attempt \(row.number): \(path) differs from its record")
      }
    }
    problems += lying.keys.filter { !recorded.contains($0) }.sorted().map { "\($0) is there and not recorded" }
    return problems
  }

  private func fired() -> [String] {
    guard let schedule = history.schedule else { return [] }
    let runs = Dictionary(grouping: history.jobs.filter { $0.firedFor != nil }, by: { $0.firedFor! })
    var problems = runs.filter { $0.value.count > 1 }.map { "instant \($0.key) has \($0.value.count) runs" }
    let first = (schedule.after / schedule.period + 1) * schedule.period
    let instants = Set(stride(from: first, through: schedule.handled, by: Int64.Stride(schedule.period)))
    problems += instants.subtracting(runs.keys).sorted().map { "instant \($0) is settled and has no run" }
    problems += Set(runs.keys).subtracting(instants).sorted().map { "instant \($0) was fired out of turn" }
    return problems
  }

  private func outcomes() -> [String] {
    var problems: [String] = []
    for told in history.acknowledged {
      guard let last = attempts[told.job]?.last(where: \.final) else { continue }
      let allowed: Set<String> =
        switch told.kind {
        case .quick, .output, .slow, .scheduled, .parent, .child: ["succeeded", "lost"]
        case .fails: ["failed", "lost"]
        case .flaky: ["succeeded", "failed", "lost"]
        case .cancelled: told.cancel == "cancelled" ? ["cancelled"] : ["cancelled", "succeeded", "lost"]
        case .cancelledSoon: ["cancelled", "succeeded", "lost"]
        }
      if !allowed.contains(last.outcome) {
        problems.append("job \(told.job) (\(told.kind)) ended as \(last.outcome)")
      }
      if let content = told.content, last.outcome == "succeeded", last.artifacts.map(\.sha256) != [content] {
        problems.append("job \(told.job) (\(told.kind)) published something else than it wrote")
      }
    }
    return problems
  }

  private func clocks() -> [String] {
    let span = history.began...history.ended
    let moments = history.attempts.flatMap { row in
      [row.startedAt, row.finishedAt].compactMap { $0 }.map { (row.job, $0) }
    }
    return moments.filter { !span.contains($0.1) }.map { "job \($0.0) names the moment \($0.1)" }
      + history.events.filter { !span.contains($0.at) }.map { "job \($0.job): \($0.what) at \($0.at)" }
  }

  // MARK: One job

  private func endsOnce(_ job: History.Job, _ rows: [History.Attempt]) -> [String] {
    let finals = rows.filter(\.final).count
    guard finals + job.places.count != 1 else { return [] }
    return ["job \(job.id) has \(finals) final attempts and is in \(job.places)"]
  }

  private func numbered(_ job: History.Job, _ rows: [History.Attempt]) -> [String] {
    let numbers = rows.map(\.number)
    var problems: [String] = []
    if numbers != Array(1..<(numbers.count + 1)) { problems.append("job \(job.id) has attempts \(numbers)") }
    if rows.dropLast().contains(where: \.final) { problems.append("job \(job.id) went on after its final attempt") }
    return problems
  }

  private func oneValid(
    _ job: History.Job, _ rows: [History.Attempt], _ about: [History.Event]
  ) -> [String] {
    var problems: [String] = []
    let starts = about.filter { $0.what == "started" }
    for (attempt, twice) in Dictionary(grouping: starts, by: \.attempt) where twice.count > 1 {
      problems.append("job \(job.id) began attempt \(attempt ?? 0) \(twice.count) times")
    }
    let held = rows.filter { $0.token != nil }
    for (earlier, later) in zip(held, held.dropFirst()) {
      if earlier.token! >= later.token! {
        problems.append("job \(job.id): attempt \(later.number) has no newer token than \(earlier.number)")
      }
      if let begun = starts.first(where: { $0.token == later.token }), begun.at < earlier.finishedAt {
        problems.append("job \(job.id): attempt \(later.number) began before \(earlier.number) was over")
      }
    }
    for row in held {
      if let begun = starts.first(where: { $0.token == row.token }), begun.at > row.finishedAt {
        problems.append("job \(job.id): attempt \(row.number) began after it was over")
      }
    }
    return problems
  }

  private func leased(_ job: History.Job, _ rows: [History.Attempt], _ about: [History.Event]) -> [String] {
    var problems: [String] = []
    for row in rows {
      let name = "job \(job.id), attempt \(row.number)"
      let ends = about.filter { ["rescued", "released"].contains($0.what) && $0.token != nil && $0.token == row.token }
      switch row.via {
      case "complete":
        if !ends.isEmpty { problems.append("\(name) was completed after its lease was taken") }
        let begun = about.contains {
          $0.what == "started" && $0.token == row.token && $0.attempt == row.number && $0.worker == row.worker
        }
        // These two say that no job byte ran.
        if !begun && !["refused", "cancelled"].contains(row.outcome) {
          problems.append("\(name) was completed without a start under its token")
        }
      case "rescue", "release":
        if ends.count != 1 { problems.append("\(name) was taken by \(row.via) \(ends.count) times") }
      default:
        if row.token != nil { problems.append("\(name) ended by \(row.via) and has a token") }
      }
    }
    return problems
  }

  private func cancelled(
    _ job: History.Job, _ rows: [History.Attempt], _ about: [History.Event]
  ) -> [String] {
    let recorded = about.first { $0.what == "cancelled" }
    guard told[job.id]?.cancel == "cancelled" || recorded != nil else { return [] }
    guard let recorded else { return ["job \(job.id) was said to be cancelled and is not"] }
    let first = recorded.attempt ?? 1
    if about.contains(where: { $0.what == "started" && ($0.attempt ?? 0) >= first })
      || rows.contains(where: { $0.number > first || ($0.number == first && $0.via != "cancel") })
    {
      return ["job \(job.id) was cancelled before attempt \(first) and went on"]
    }
    return []
  }

  private func scheduled(_ job: History.Job, _ about: [History.Event]) -> [String] {
    var problems: [String] = []
    let starts = about.filter { $0.what == "started" }
    if let runAt = job.runAt, starts.contains(where: { $0.at < runAt }) {
      problems.append("job \(job.id) began before its time")
    }
    if let parent = told[job.id]?.parent, !starts.isEmpty {
      let over = attempts[parent]?.last(where: \.final)?.finishedAt ?? .max
      if starts.contains(where: { $0.at < over }) { problems.append("job \(job.id) began before \(parent) was over") }
    }
    return problems
  }
}
