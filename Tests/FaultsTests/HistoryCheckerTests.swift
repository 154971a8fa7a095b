import FaultHistory
import Testing

@Suite("What the checker of a history sees")
struct HistoryCheckerTests {
  private static let job = "01a2"
  private static let path = "/artifacts/t/01a2/2"
  private static let file = History.Artifact(path: "text", bytes: 3, sha256: "sha256:aa")

  /// A job that was lost once and then succeeded, one that was cancelled, and one that is owed.
  private static var good: History {
    var history = History()
    history.began = 1_000
    history.ended = 9_000
    history.acknowledged = [
      .init(number: 1, kind: .output, key: "one", job: job, content: file.sha256),
      .init(number: 2, kind: .cancelled, key: "two", job: "01a3", cancel: "cancelled"),
      .init(number: 3, kind: .child, key: "three", job: "01a4", parent: job),
    ]
    history.jobs = [
      .init(id: job, key: "one", runAt: 1_200), .init(id: "01a3", key: "two"), .init(id: "01a4", key: "three"),
      .init(id: "01a5", firedFor: 4_000, places: ["ready"]), .init(id: "01a6", firedFor: 6_000, places: ["ready"]),
    ]
    history.schedule = .init(period: 2_000, after: 2_500, handled: 7_000)
    history.attempts = [
      .init(
        job: job, number: 1, final: false, via: "rescue", outcome: "lost", token: 5, startedAt: 1_300,
        finishedAt: 2_000),
      .init(
        job: job, number: 2, final: true, token: 8, startedAt: 2_100, finishedAt: 3_000, published: path,
        artifacts: [file]),
      .init(
        job: "01a3", number: 1, final: true, via: "cancel", outcome: "cancelled", worker: nil, finishedAt: 1_500),
      .init(job: "01a4", number: 1, final: true, token: 9, startedAt: 3_100, finishedAt: 3_500),
    ]
    history.events = [
      .init(what: "started", job: job, attempt: 1, token: 5, at: 1_300),
      .init(what: "rescued", job: job, attempt: 1, token: 5, at: 2_000),
      .init(what: "started", job: job, attempt: 2, token: 8, at: 2_100),
      .init(what: "cancelled", job: "01a3", attempt: 1, worker: nil, at: 1_500),
      .init(what: "started", job: "01a4", attempt: 1, token: 9, at: 3_100),
    ]
    history.directories = [.init(path: path, files: [file])]
    return history
  }

  @Test("a good history has no finding")
  func good() {
    #expect(HistoryChecker(Self.good).check().map(\.description) == [])
  }

  struct Bad: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var promise: HistoryChecker.Promise
    var change: @Sendable (inout History) -> Void

    init(
      _ description: String, _ promise: HistoryChecker.Promise, _ change: @escaping @Sendable (inout History) -> Void
    ) {
      testDescription = description
      self.promise = promise
      self.change = change
    }
  }

  @Test(
    "each promise is seen to be broken",
    arguments: [
      Bad("an acknowledged job is gone", .kept) { $0.jobs.removeFirst() },
      Bad("a key has two jobs", .kept) { $0.jobs.append(.init(id: "01a9", key: "one", places: ["ready"])) },
      Bad("a key was answered with another's job", .kept) { $0.acknowledged[0].key = "two" },
      Bad("a job is over and waits", .endsOnce) { $0.jobs[0].places = ["ready"] },
      Bad("a job waits twice", .endsOnce) {
        $0.jobs.append(.init(id: "01a9", places: ["ready", "scheduled"]))
      },
      Bad("a job is nowhere", .endsOnce) { $0.attempts[1].final = false },
      Bad("a job ended twice", .endsOnce) { $0.attempts[0].final = true },
      Bad("a job has not ended", .ended) {
        $0.attempts[3].final = false
        $0.jobs[2].places = ["ready"]
      },
      Bad("a number is missing", .numbered) { $0.attempts[1].number = 3 },
      Bad("a number is there twice", .numbered) { $0.attempts[1].number = 1 },
      Bad("an attempt follows the final one", .numbered) {
        $0.attempts[0].final = true
        $0.attempts[1].final = false
      },
      Bad("an attempt began twice", .oneValid) {
        $0.events.append(.init(what: "started", job: job, attempt: 2, token: 9, at: 2_200))
      },
      Bad("an attempt began while the one before was valid", .oneValid) { $0.events[2].at = 1_900 },
      Bad("an attempt began after its own end", .oneValid) { $0.events[2].at = 3_300 },
      Bad("a later attempt has an older token", .oneValid) { $0.attempts[1].token = 4 },
      Bad("a completion had no start", .leased) { $0.events.remove(at: 2) },
      Bad("a completion was by another worker than its start", .leased) { $0.attempts[1].worker = 2 },
      Bad("a completion came after the rescue of its lease", .leased) {
        $0.events.append(.init(what: "rescued", job: job, attempt: 2, token: 8, at: 2_900))
      },
      Bad("a rescue took no lease", .leased) { $0.events.remove(at: 1) },
      Bad("an unclaimed end has a token", .leased) { $0.attempts[2].token = 7 },
      Bad("what was recorded is not there", .published) { $0.directories = [] },
      Bad("what is there was not recorded", .published) {
        $0.directories.append(.init(path: "/artifacts/t/01a2/1", files: []))
      },
      Bad("what is there has other bytes", .published) { $0.directories[0].files[0].sha256 = "sha256:bb" },
      Bad("a cancelled job began", .cancelled) {
        $0.events.append(.init(what: "started", job: "01a3", attempt: 1, token: 11, at: 1_600))
      },
      Bad("a cancelled job went on", .cancelled) {
        $0.attempts[2].final = false
        $0.attempts.append(.init(job: "01a3", number: 2, final: true, token: 12, finishedAt: 1_700))
      },
      Bad("a producer was told of a cancel that was not recorded", .cancelled) { $0.events.remove(at: 3) },
      Bad("a job began before its time", .scheduled) { $0.jobs[0].runAt = 1_301 },
      Bad("a job began before its parent was over", .scheduled) { $0.events[4].at = 2_900 },
      Bad("a schedule fired twice for an instant", .fired) { $0.jobs[4].firedFor = 4_000 },
      Bad("a schedule left an instant out", .fired) { $0.jobs.remove(at: 3) },
      Bad("a schedule fired for an instant that was none", .fired) { $0.jobs[3].firedFor = 4_500 },
      Bad("a schedule fired before it was set", .fired) {
        $0.jobs.append(.init(id: "01a7", firedFor: 2_000, places: ["ready"]))
      },
      Bad("a good program is said to have failed", .outcome) { $0.attempts[1].outcome = "failed" },
      Bad("a program's output is not what it wrote", .outcome) { $0.acknowledged[0].content = "sha256:cc" },
      Bad("a worker's clock was recorded", .clock) { $0.attempts[1].finishedAt = 31_536_000_000_000 },
    ])
  func broken(bad: Bad) {
    var history = Self.good
    bad.change(&history)
    let promises = Set(HistoryChecker(history).check().map(\.promise))
    #expect(promises.contains(bad.promise), "\(promises)")
  }
}
