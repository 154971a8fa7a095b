import Foundation
import Jobs
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

  /// The first one works.
  func areThere() async throws { try await Task.sleep(for: .milliseconds(150)) }

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
      started: try date(record["started_at"]), finished: try date(record["finished_at"]), problem: problem,
      slow: record["result"]?["slow"]?.double ?? .infinity)
  }

  /// A time of the record, with its microseconds.
  static func date(_ value: JSONValue?) throws -> Date {
    let parts = (value?.string ?? "").split(separator: ".", maxSplits: 1)
    guard parts.count == 2, let fraction = Double("0." + parts[1].dropLast()) else {
      throw Problem("\(String(describing: value)) is no time of a record")
    }
    return try Date(parts[0] + "Z", strategy: .iso8601).addingTimeInterval(fraction)
  }
}
