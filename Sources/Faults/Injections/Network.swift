extension Fleet {
  /// Everybody's next answers never arrive; what they were about is committed.
  func loseAnswers(for length: Duration) async {
    for proxy in proxies { proxy.loseAnswers(3) }
    try? await Task.sleep(for: length)
    for proxy in proxies { proxy.loseAnswers(0) }
  }

  /// - Parameter cut: what was sent meanwhile is lost instead of late.
  func partition(_ worker: Int, for length: Duration, cut: Bool) async {
    proxies[worker].hold()
    try? await Task.sleep(for: length)
    proxies[worker].release(cut: cut)
  }
}
