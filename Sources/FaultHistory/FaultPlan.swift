/// What production does to a fleet.
public enum FaultKind: String, Sendable, CaseIterable, Codable {
  /// SIGKILL; whoever supervises the workers starts another.
  case killWorker
  /// SIGSTOP for longer than its lease, then SIGCONT.
  case pauseWorker
  case killWarden
  case pauseWarden
  /// `pg_ctl stop -m immediate`, and a start that has to recover.
  case crashDatabase
  /// Every session of workers and producers is ended.
  case terminateBackends
  /// Somebody holds a lock on `cordon.lease`.
  case lockLeases
  /// Somebody takes every connection there is.
  case exhaustConnections
  /// Statements are executed and committed, and their answers never arrive.
  case loseAnswers
  /// No packet passes between a worker and the database.
  case partition
  /// A share of the packets between a worker and the database is lost.
  case losePackets
  /// A worker goes on with its clock a year off.
  case skewClock
  /// No space is left where PostgreSQL writes.
  case fillDisk
  /// The primary is gone for good, with or without a word, and its synchronous replica takes over.
  case promoteReplica
}

/// One fault of a plan.
public struct Fault: Sendable, Equatable {
  public var kind: FaultKind
  /// When it begins, after the fleet serves.
  public var at: Duration
  /// How long it lasts, where it does.
  public var length: Duration
  /// The worker it meets, where it is about one.
  public var worker: Int
  /// A choice between two forms of it.
  public var variant: Bool
  /// Of a thousand packets, how many are lost where a share is.
  public var lost: Int
}

/// A seeded script of faults: the same seed and size give the same plan.
public struct FaultPlan: Sendable, Equatable {
  public let seed: UInt64
  public let faults: [Fault]

  /// Between two faults. The mean is what a worker needs to come back, divided by a few workers: there is always some
  /// part of the fleet in trouble, and some that works.
  static let gap: ClosedRange<Int64> = 300...1_500
  /// From what TCP hides to what makes a statement later than a worker waits for it.
  static let lost = 50...400

  /// - Parameters:
  ///   - most: the most faults; nil is as many as the time has room for.
  ///   - lease: what faults that are to outlast a lease outlast.
  public init(
    seed: UInt64, lasting: Duration?, most: Int?, workers: Int, lease: Duration,
    kinds: [FaultKind] = FaultKind.allCases
  ) {
    precondition(lasting != nil || most != nil)
    self.seed = seed
    var chance = SplitMix(seed: seed)
    var faults: [Fault] = []
    var at = Duration.milliseconds(500)
    var bag: [FaultKind] = []
    while faults.count < most ?? .max, at < lasting ?? .seconds(1 << 40) {
      // Out of a bag, so that a short run meets every kind.
      if bag.isEmpty { bag = kinds.shuffled(using: &chance) }
      let kind = bag.removeLast()
      faults.append(
        Fault(
          kind: kind, at: at, length: Self.length(kind, lease, &chance),
          worker: .random(in: 0..<workers, using: &chance),
          variant: .random(using: &chance), lost: .random(in: Self.lost, using: &chance)))
      at += .milliseconds(Int64.random(in: Self.gap, using: &chance))
    }
    self.faults = faults
  }

  private static func length(_ kind: FaultKind, _ lease: Duration, _ chance: inout SplitMix) -> Duration {
    let share = Double.random(in: 0...1, using: &chance)
    return switch kind {
    case .killWorker, .killWarden, .terminateBackends, .skewClock, .promoteReplica: .zero
    // From just under a lease to well over it.
    case .pauseWorker, .pauseWarden, .partition: lease * (0.8 + share)
    case .crashDatabase: .seconds(share * 1.5)
    case .lockLeases, .exhaustConnections: lease * (0.5 + share)
    case .loseAnswers, .fillDisk: .seconds(1 + share * 2)
    // Long enough for a few heartbeats to meet it.
    case .losePackets: lease * (1 + share)
    }
  }
}

/// A small generator of Steele, Lea and Flood, for what has to come out alike everywhere.
public struct SplitMix: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) {
    state = seed
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
