import Foundation
import Jobs
import Postgres
import TestKit

/// Jobs that run one after the other in two lanes as long as a round lasts, so that there is always one that works
/// beside an attack. Each checks its own progress: what it computes, what it wrote, and that nobody signals it.
actor Neighbours {
  /// One neighbour that is over.
  struct Witness: Sendable {
    var started: Date
    var finished: Date
    var problem: String?
    /// Milliseconds that the slowest of a hundred steps took.
    var slow: Double
  }

  private let house: AttackHouse
  private var lanes: [Task<[Witness], any Error>] = []
  private let isOver = Flag()

  final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false
    var isRaised: Bool { lock.withLock { value } }
    func raise() { lock.withLock { value = true } }
  }

  init(_ house: AttackHouse) {
    self.house = house
  }

  private static let program = """
    import hashlib, json, os, signal, sys, time
    signals = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGCONT):
        signal.signal(number, lambda n, frame: signals.append(n))
    digest, took, steps, wrong = b"", [], 0, []
    end = time.monotonic() + 0.9
    while time.monotonic() < end or steps < 20:
        began = time.monotonic()
        digest = hashlib.sha256(digest + str(steps).encode()).digest()
        with open(os.environ["CORDON_OUTPUT"] + "/progress", "w") as file: file.write(digest.hex())
        with open(os.environ["CORDON_OUTPUT"] + "/progress") as file:
            if file.read() != digest.hex(): wrong.append("its file changed")
        took.append((time.monotonic() - began) * 1000)
        steps += 1
        time.sleep(0.004)
    check = b""
    for step in range(steps): check = hashlib.sha256(check + str(step).encode()).digest()
    if check != digest: wrong.append("its digest is another")
    if signals: wrong.append(f"signals {signals}")
    took.sort()
    with open(os.environ["CORDON_RESULT"], "w") as file:
        json.dump({"steps": steps, "wrong": wrong, "slow": took[int(len(took) * 0.99)]}, file)
    """

  func start() {
    for lane in 0..<2 {
      let (house, isOver) = (house, isOver)
      lanes.append(
        Task {
          var witnesses: [Witness] = []
          if lane == 1 { try await Task.sleep(for: .milliseconds(500)) }
          while !isOver.isRaised { witnesses.append(try await Self.run(house)) }
          return witnesses
        })
    }
  }

  /// The first one works. One that does not come is missed when its round is judged.
  func areThere() async throws {
    let statement = Statement(
      name: "neighbours",
      sql: """
        SELECT FROM cordon.lease l JOIN cordon.job j ON j.id = l.job
        WHERE l.started_at IS NOT NULL AND j.specification -> 'labels' ->> 'attack' = 'neighbour'
        """)
    let end = ContinuousClock.now + Duration.seconds(30).patiently
    while try await house.superuser.query(statement).isEmpty, ContinuousClock.now < end {
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// Whether one ran while this job did, as far as its times are known; judged in earnest when the round is over.
  static func were(beside evidence: Evidence) async throws -> Bool {
    guard let house = evidence.house, let from = evidence.record["started_at"]?.string,
      let to = evidence.record["finished_at"]?.string
    else { return true }
    let statement = Statement(
      name: "neighbours-beside",
      sql: """
        SELECT FROM cordon.job j
        LEFT JOIN cordon.lease l ON l.job = j.id LEFT JOIN cordon.attempt a ON a.job = j.id
        WHERE j.specification -> 'labels' ->> 'attack' = 'neighbour'
          AND coalesce(l.started_at, a.started_at) < $2::text::timestamptz
          AND (l.job IS NOT NULL OR a.finished_at > $1::text::timestamptz)
        LIMIT 1
        """)
    return try await !house.superuser.query(statement, [Parameter(from), Parameter(to)]).isEmpty
  }

  func stop() async throws -> [Witness] {
    isOver.raise()
    var witnesses: [Witness] = []
    for lane in lanes { witnesses += try await lane.value }
    return witnesses
  }

  static func run(_ house: AttackHouse) async throws -> Witness {
    let job = try await house.enqueue([
      "runtime": .string("python3"), "code": .string(program),
      "labels": .object(["attack": .string("neighbour")]),
    ])
    let record = try await house.finished(job)
    var problem: String?
    let wrong = record["result"]?["wrong"]?.array ?? []
    if record["outcome"] != .string("succeeded") {
      problem = "it ended as \(record["outcome"]?.string ?? "unknown"): \(record["reason"]?.string ?? "")"
    } else if !wrong.isEmpty {
      problem = "\(wrong)"
    } else if (record["result"]?["steps"]?.integer ?? 0) < 20 {
      problem = "it made no progress"
    }
    return Witness(
      started: try time(ofRecord: record["started_at"]), finished: try time(ofRecord: record["finished_at"]),
      problem: problem, slow: record["result"]?["slow"]?.double ?? .infinity)
  }
}
