/// When to look at whom again: the earliest moment first, at a cost that grows with the logarithm of how many there are.
///
/// Entries are never searched for: setting a new moment leaves the old one in the heap, and `due` passes over what is
/// not the latest word. So a caller may set moments as often as it likes; the heap is rebuilt when old ones prevail.
public struct Deadlines<Identifier: Hashable, Moment: Comparable> {
  private var heap: [(moment: Moment, identifier: Identifier)] = []
  private var latest: [Identifier: Moment] = [:]

  public init() {}

  /// How many have a moment.
  public var count: Int { latest.count }

  /// The earliest moment of all.
  public var next: Moment? {
    mutating get {
      dropStale()
      return heap.first?.moment
    }
  }

  /// Sets the moment of one; nil forgets it.
  public mutating func set(_ identifier: Identifier, _ moment: Moment?) {
    guard latest[identifier] != moment else { return }
    latest[identifier] = moment
    guard let moment else { return }
    if heap.count > 2 * latest.count + 64 { rebuild() } else { push((moment, identifier)) }
  }

  /// Takes those whose moment is not after `now`, the earliest first.
  public mutating func due(_ now: Moment) -> [Identifier] {
    var due: [Identifier] = []
    while let first = heap.first, first.moment <= now {
      pop()
      if latest[first.identifier] == first.moment {
        latest[first.identifier] = nil
        due.append(first.identifier)
      }
    }
    return due
  }

  private mutating func dropStale() {
    while let first = heap.first, latest[first.identifier] != first.moment { pop() }
  }

  private mutating func rebuild() {
    heap = latest.map { ($0.value, $0.key) }.sorted { $0.moment < $1.moment }
  }

  private mutating func push(_ entry: (moment: Moment, identifier: Identifier)) {
    heap.append(entry)
    var child = heap.count - 1
    while child > 0, heap[child].moment < heap[(child - 1) / 2].moment {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  private mutating func pop() {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].moment < heap[least].moment
      {
        least = child
      }
      if least == parent { return }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}
