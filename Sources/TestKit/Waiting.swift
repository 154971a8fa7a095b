import Foundation

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

/// Waits until `condition` holds; a `Problem` that names it when it does not within `limit`.
public func eventually(_ what: String, limit: Duration = .seconds(10), _ condition: () -> Bool) async throws {
  let end = ContinuousClock.now + limit
  while !condition() {
    guard ContinuousClock.now < end else { throw Problem("not within \(limit): \(what)") }
    try await Task.sleep(for: .milliseconds(50))
  }
}
