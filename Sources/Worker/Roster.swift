import Jobs
import Store

/// Which attempts a worker holds and whether it may take more: the worker's decisions as a value, without I/O.
///
/// Attempts are known by their fencing token and not by their job: after a lost lease the same worker may hold the
/// next attempt of a job while it still ends the one before.
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
    var isFrozen = false
  }

  let slots: Int
  private(set) var mode = Mode.serving
  private(set) var entries: [Int64: Entry] = [:]
  /// True while a claim is under way: what it will answer with is not known, but the database may have given it.
  private var claiming = false

  init(slots: Int) {
    self.slots = slots
  }

  /// True when the worker has nothing left to do and may go.
  var mayLeave: Bool { mode > .serving && entries.isEmpty && !claiming }

  var held: [(job: JobID, token: Int64)] { entries.map { (job: $0.value.claim.job, token: $0.key) } }

  /// How many jobs to ask for now; 0 when nothing is to be claimed. A positive answer must be followed by
  /// `claimed`, with nothing when the claim failed.
  mutating func beginClaim() -> Int {
    guard mode == .serving, !claiming, entries.count < slots else { return 0 }
    claiming = true
    return slots - entries.count
  }

  /// What a claim answered with.
  /// - Returns: the claims to run. Those that arrive after the order to leave are to be given back by the caller;
  ///   they are held until then. One that has begun already may finish, as what ran before the order.
  mutating func claimed(_ claims: [Claim]) -> (run: [Claim], giveBack: [Claim]) {
    claiming = false
    let run = claims.filter { mode == .serving || mode == .draining && $0.isBegun }
    let giveBack = mode == .serving ? [] : claims.filter { mode == .leaving || !$0.isBegun }
    for claim in run { entries[claim.token] = Entry(claim: claim) }
    for claim in giveBack { entries[claim.token] = Entry(claim: claim, stop: .abandoned) }
    return (run, giveBack)
  }

  mutating func remove(token: Int64) {
    entries[token] = nil
  }

  func stopReason(token: Int64) -> StopReason? { entries[token]?.stop }

  /// What a heartbeat's verdicts mean for the cells.
  /// - Returns: the attempts that are to be stopped now, with the reason; each attempt at most once ever.
  mutating func apply(_ verdicts: [Int64: HeartbeatVerdict]) -> [Int64: StopReason] {
    var stops: [Int64: StopReason] = [:]
    for (token, verdict) in verdicts where verdict != .freeze {
      let reason: StopReason = verdict == .cancel ? .cancelled : .abandoned
      if mark(token, reason) { stops[token] = reason }
    }
    return stops
  }

  /// What a heartbeat's verdicts mean for who stands still.
  /// - Parameter asked: the attempts that the heartbeat named; of others it says nothing.
  /// - Returns: the attempts that are to stand still now, or to go on.
  mutating func freeze(_ verdicts: [Int64: HeartbeatVerdict], asked: [Int64]) -> [Int64: Bool] {
    var changes: [Int64: Bool] = [:]
    for token in asked {
      guard let entry = entries[token], entry.stop == nil else { continue }
      let isFrozen = verdicts[token] == .freeze
      guard entry.isFrozen != isFrozen else { continue }
      entries[token]?.isFrozen = isFrozen
      changes[token] = isFrozen
    }
    return changes
  }

  func isFrozen(token: Int64) -> Bool { entries[token]?.isFrozen ?? false }

  /// Moves to `mode` unless already there or beyond.
  /// - Returns: attempts that are to be stopped now.
  mutating func enter(_ mode: Mode) -> [Int64: StopReason] {
    guard mode > self.mode else { return [:] }
    self.mode = mode
    return mode == .leaving ? abandonAll() : [:]
  }

  /// The database was out of reach for a whole lease: other workers may own these attempts by now.
  mutating func abandonAll() -> [Int64: StopReason] {
    var stops: [Int64: StopReason] = [:]
    for token in entries.keys where mark(token, .abandoned) { stops[token] = .abandoned }
    return stops
  }

  private mutating func mark(_ token: Int64, _ reason: StopReason) -> Bool {
    guard let entry = entries[token], entry.stop == nil else { return false }
    entries[token]?.stop = reason
    return true
  }
}
