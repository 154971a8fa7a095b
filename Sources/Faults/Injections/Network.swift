import FaultHistory

extension Fleet {
  /// Everybody's next answers never arrive; what they were about is committed.
  func loseAnswers(for length: Duration) async {
    for proxy in proxies.joined() { proxy.loseAnswers(3) }
    try? await Task.sleep(for: length)
    for proxy in proxies.joined() { proxy.loseAnswers(0) }
  }

  /// - Parameter cut: the database's side gives the connections up meanwhile, so that what was in flight is lost instead
  ///   of late; the worker hears of it no sooner than that it can be heard.
  func partition(_ worker: Int, for length: Duration, cut: Bool) async throws {
    try await network.drop(1_000, .partition, of: [worker]) {
      if cut { for proxy in proxies[worker] { proxy.cut() } }
      try? await Task.sleep(for: length)
    }
  }

  /// - Parameter lost: how many of a thousand.
  func losePackets(_ worker: Int, for length: Duration, lost: Int) async throws {
    try await network.drop(lost, .losePackets, of: [worker]) { try? await Task.sleep(for: length) }
  }
}
