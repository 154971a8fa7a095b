// Theory of operation
//
// A cell can wait for an order only if it was built for that order's shape: the limits, sizes and runtime that are laid
// down while it is built. So demand is learnt for each shape by itself. An order that finds no cell waiting says that one
// more should have been there; a period in which some cells always stayed waiting says that these were too many. The sum
// over all shapes never passes the ceiling: what was asked for longest ago gives way.
//
// Values only. The supervisor says what happened and asks how many cells of which shape should wait now.

/// How many unused cells of each shape are worth keeping.
public struct PoolPlan<Shape: Hashable> {
  /// Microseconds of a monotonic clock.
  public typealias Moment = Int64

  /// Cells that may wait at most, of all shapes together.
  public let ceiling: Int
  private var demands: [Shape: Demand] = [:]

  private struct Demand {
    var target = 1
    var lastOrder: Moment
    var periodBegan: Moment
    /// Fewest cells that waited at any moment of this period.
    var leastWaiting: Int
  }

  /// After this long without an order no cell of the shape is kept: an interval that hides the cost of a build from
  /// everybody who comes more often than a few times an hour, at one waiting cell.
  static var forgetAfter: Moment { 600_000_000 }
  /// How long cells must have been too many before one is given up.
  static var period: Moment { 10_000_000 }

  public init(ceiling: Int) {
    self.ceiling = max(0, ceiling)
  }

  /// An order came, and beside it `waiting` cells of its shape were free, itself served from one of them or not.
  public mutating func ordered(_ shape: Shape, waiting: Int, now: Moment) {
    guard ceiling > 0 else { return }
    guard var demand = demands[shape] else {
      demands[shape] = Demand(lastOrder: now, periodBegan: now, leastWaiting: waiting)
      return
    }
    if waiting == 0 { demand.target = min(ceiling, demand.target + 1) }
    demand.leastWaiting = min(demand.leastWaiting, max(0, waiting - 1))
    demand.lastOrder = now
    demands[shape] = demand
  }

  /// A cell of this shape could not be built: nothing is to be kept until the next order.
  public mutating func failed(_ shape: Shape) { demands[shape] = nil }

  /// How many cells of each shape should wait; shapes that are not named should have none.
  public mutating func wanted(now: Moment) -> [Shape: Int] {
    for (shape, var demand) in demands {
      if now - demand.lastOrder >= Self.forgetAfter {
        demands[shape] = nil
      } else if now - demand.periodBegan >= Self.period {
        demand.target = max(1, demand.target - demand.leastWaiting)
        (demand.periodBegan, demand.leastWaiting) = (now, demand.target)
        demands[shape] = demand
      }
    }
    var room = ceiling
    var wanted: [Shape: Int] = [:]
    for (shape, demand) in demands.sorted(by: { $0.value.lastOrder > $1.value.lastOrder }) {
      guard room > 0 else {
        demands[shape] = nil
        continue
      }
      wanted[shape] = min(demand.target, room)
      room -= min(demand.target, room)
    }
    return wanted
  }

  /// When `wanted` may say something new without an order; nil when nothing is kept.
  public func reviewAt() -> Moment? {
    demands.values.map { min($0.periodBegan + Self.period, $0.lastOrder + Self.forgetAfter) }.min()
  }
}
