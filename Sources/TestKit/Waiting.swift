import Foundation
import Jobs

/// How many times longer than on an ordinary host a test waits before it gives up, and how much more time it lets
/// pass where it judges one: the environment variable `CORDON_TEST_PATIENCE`, for machines that are emulated
/// (`ops/vm-test`). No limit of the product is multiplied by it; a time limit that a case gives to a job is only where
/// the job has to get somewhere within it.
public let patience = ProcessInfo.processInfo.environment["CORDON_TEST_PATIENCE"].flatMap(Double.init) ?? 1

extension Duration {
  public var patiently: Duration { self * patience }
}

/// A `sleep` that is told from every other process of the host by its argument.
public struct Marker: Sendable {
  public let text = "86399.\(UInt32.random(in: 100_000...999_999))"

  public init() {}

  /// Whether it is alive, as the host sees it.
  public var exists: Bool {
    let ids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.filter { Int($0) != nil } ?? []
    return ids.contains { id in
      guard let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") else { return false }
      let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      return words.first?.hasSuffix("sleep") == true && words.contains(text)
    }
  }
}

/// A time of a record, with its microseconds.
public func time(ofRecord value: JSONValue?) throws -> Date {
  let parts = (value?.string ?? "").split(separator: ".", maxSplits: 1)
  guard parts.count == 2, let fraction = Double("0." + parts[1].dropLast()) else {
    throw Problem("\(String(describing: value)) is no time of a record")
  }
  return try Date(parts[0] + "Z", strategy: .iso8601).addingTimeInterval(fraction)
}

/// Waits until `condition` holds; a `Problem` that names it when it does not within `limit`.
public func eventually(_ what: String, limit: Duration = .seconds(10), _ condition: () -> Bool) async throws {
  let end = ContinuousClock.now + limit.patiently
  while !condition() {
    guard ContinuousClock.now < end else { throw Problem("not within \(limit.patiently): \(what)") }
    try await Task.sleep(for: .milliseconds(50))
  }
}
