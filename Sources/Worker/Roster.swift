import Jobs
import Store

/// Which attempts a worker holds and whether it may take more: the worker's decisions as a value, without I/O.
///
/// Modes only move forward: serving → draining → leaving. The first reason given for stopping an attempt stands.
struct Roster {
  enum Mode: Int, Comparable {
    /// Claims and runs.
    case serving
    /// Claims no more; what runs may finish.
    case draining
    /// Ends what runs and gives it back.
    case leaving

    static func < (left: Mode, right: Mode) -> Bool { left.rawValue < right.rawValue }
  }

  struct Entry {
    var claim: Claim
    var stop: StopReason?
  }

  let slots: Int
  private(set) var mode = Mode.serving
  private(set) var entries: [JobID: Entry] = [:]

  init(slots: Int) {
    self.slots = slots
  }

  /// How many jobs the next claim may take.
  var wanted: Int { mode == .serving ? slots - entries.count : 0 }

  /// True when the worker has nothing left to do and may go.
  var mayLeave: Bool { mode > .serving && entries.isEmpty }

  var held: [(job: JobID, token: Int64)] { entries.map { (job: $0.key, token: $0.value.claim.token) } }

  mutating func add(_ claim: Claim) {
    // A claim that answers after the order to leave is held, but only to be given back.
    entries[claim.job] = Entry(claim: claim, stop: mode == .leaving ? .abandoned : nil)
  }

  mutating func remove(_ job: JobID) {
    entries[job] = nil
  }

  func stopReason(_ job: JobID) -> StopReason? { entries[job]?.stop }

  /// What a heartbeat's verdicts mean for the cells.
  /// - Parameter asked: the leases the heartbeat named. While it was under way an attempt may have ended and the
  ///   same job may have been claimed again; a verdict on the old lease says nothing about the new one.
  /// - Returns: the attempts that are to be stopped now, with the reason; each attempt at most once ever.
  mutating func apply(
    _ verdicts: [JobID: HeartbeatVerdict], to asked: [(job: JobID, token: Int64)]
  ) -> [JobID: StopReason] {
    var stops: [JobID: StopReason] = [:]
    for (job, token) in asked {
      guard let verdict = verdicts[job], entries[job]?.claim.token == token else { continue }
      let reason: StopReason = verdict == .cancel ? .cancelled : .abandoned
      if mark(job, reason) { stops[job] = reason }
    }
    return stops
  }

  /// Moves to `mode` unless already there or beyond.
  /// - Returns: attempts that are to be stopped now.
  mutating func enter(_ mode: Mode) -> [JobID: StopReason] {
    guard mode > self.mode else { return [:] }
    self.mode = mode
    return mode == .leaving ? abandonAll() : [:]
  }

  /// The database was out of reach for a whole lease: other workers may own these attempts by now.
  mutating func abandonAll() -> [JobID: StopReason] {
    var stops: [JobID: StopReason] = [:]
    for job in entries.keys where mark(job, .abandoned) { stops[job] = .abandoned }
    return stops
  }

  private mutating func mark(_ job: JobID, _ reason: StopReason) -> Bool {
    guard let entry = entries[job], entry.stop == nil else { return false }
    entries[job]?.stop = reason
    return true
  }
}
