/// A lane that gave a worker jobs, and the rank from which on the worker has not looked at it.
public struct KnownLane: Sendable, Equatable {
  public var lane: Int32
  public var floor: Int64

  public init(lane: Int32, floor: Int64) {
    self.lane = lane
    self.floor = floor
  }
}

/// Where a claim looks for jobs; see `sql/migrations/0017_lanes.sql`.
public enum LaneSearch: Sendable, Equatable {
  /// At every lane with somebody waiting, in turn behind this one and around, each from its front.
  case look(behind: Int32)
  /// At these alone.
  case known([KnownLane])
}
