/// When a worker with a free slot claims: at once, or a moment later for several slots. A value, without I/O.
///
/// A claim costs the server about as much for one job as for four. Where jobs are so short that their claims are a good
/// part of the work, and more of them wait than the worker has room for, it claims once half of its slots are free. A
/// worker that is not behind claims at once, so a job that comes to an idle queue is never held up by this.
struct ClaimPace {
  /// Below this an attempt is short: a claim a job would be felt.
  static let short = Duration.milliseconds(50)
  /// The longest that a free slot waits for a second one.
  static let patience = Duration.milliseconds(8)

  /// The last claim brought all that it asked for.
  private var isBehind = false
  /// How long attempts took of late: each new one counts for an eighth.
  private var typical = Duration.zero
  private var heldSince: ContinuousClock.Instant?

  /// - Returns: nil to claim now; otherwise how long until this is to be asked again, unless a slot becomes free first.
  mutating func wait(free: Int, slots: Int, now: ContinuousClock.Instant) -> Duration? {
    guard isBehind, free > 0, free * 2 < slots, typical < Self.short else {
      heldSince = nil
      return nil
    }
    let since = heldSince ?? now
    heldSince = since
    guard now - since < Self.patience else {
      heldSince = nil
      return nil
    }
    return since + Self.patience - now
  }

  mutating func claimed(_ count: Int, of wanted: Int) {
    isBehind = count == wanted
  }

  mutating func attemptTook(_ duration: Duration) {
    typical = typical == .zero ? duration : (typical * 7 + duration) / 8
  }
}
