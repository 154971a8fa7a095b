extension Fleet {
  /// Everybody's next answers never arrive; what they were about is committed.
  func loseAnswers(for length: Duration) async {
    for proxy in proxies.joined() { proxy.loseAnswers(3) }
    try? await Task.sleep(for: length)
    for proxy in proxies.joined() { proxy.loseAnswers(0) }
  }

  /// - Parameter cut: what was sent meanwhile is lost instead of late.
  func partition(_ worker: Int, for length: Duration, cut: Bool) async {
    for proxy in proxies[worker] { proxy.hold() }
    try? await Task.sleep(for: length)
    for proxy in proxies[worker] { proxy.release(cut: cut) }
  }
}
