import Store

/// Where a worker's next claim looks: its turn among the lanes, and what it need not read again. A value, without I/O.
///
/// A look finds whatever waits and gives every lane its turn. It reads the front of each lane, and there lie the rows that
/// were taken already, as long as anybody's old snapshot still sees them: under one that is held for an hour a look takes
/// as long as reading all jobs of that hour. So a look that was slow is not repeated before twenty times as long has
/// passed, and meanwhile claims go to the lanes that gave jobs last, each behind the last one taken. What comes back in
/// front of that (a retry, a higher priority) waits for the next look.
package struct LaneCursor {
  /// Where the next look begins.
  private var behind: Int32 = 0
  /// The lanes of the last claims, the one served longest ago first.
  private var known: [KnownLane] = []
  private var nextLook: ContinuousClock.Instant?

  package init() {}

  /// More would have to be sent with every claim; who waits in another lane is found by a look.
  static let mostKnown = 64
  /// Below this a look costs no more than it is worth.
  static let slow = Duration.milliseconds(20)
  /// Share of its time that a worker spends on slow looks: a twentieth.
  static let rest = 20
  /// No job waits longer than this for a look.
  static let longestRest = Duration.seconds(10)

  /// The search of the next claim; nil where nothing is known and it is too soon to look again.
  ///
  /// - Parameter isTold: somebody has said that a job waits: then it is worth a look, if nothing else is known. What made
  ///   the last one slow may have been a disk that stalled, and a worker with nothing to do must not sleep over a job.
  package func search(now: ContinuousClock.Instant, isTold: Bool = false) -> LaneSearch? {
    if nextLook.map({ $0 <= now }) ?? true { return .look(behind: behind) }
    if known.isEmpty { return isTold ? .look(behind: behind) : nil }
    return .known(known)
  }

  /// What a search brought.
  package mutating func found(
    _ claims: [Claim], by search: LaneSearch, limit: Int, began: ContinuousClock.Instant, now: ContinuousClock.Instant
  ) {
    for claim in claims { note(claim) }
    switch search {
    case .look:
      let took = now - began
      nextLook = took < Self.slow ? nil : now + min(took * Self.rest, Self.longestRest)
      if let last = claims.last { behind = last.lane }
    case .known(let asked):
      // One that gave nothing is empty behind its floor, unless the claim was full before its turn.
      guard claims.count < limit else { return }
      let served = Set(claims.map(\.lane))
      known.removeAll { lane in asked.contains(lane) && !served.contains(lane.lane) }
    }
  }

  private mutating func note(_ claim: Claim) {
    let floor = max(claim.rank, known.first { $0.lane == claim.lane }?.floor ?? .min)
    known.removeAll { $0.lane == claim.lane }
    known.append(KnownLane(lane: claim.lane, floor: floor))
    if known.count > Self.mostKnown { known.removeFirst() }
  }
}
