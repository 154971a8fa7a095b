/// What a pool knows, as a value: which connections are idle or lent out, who waits, how many connects are under
/// way. Every event returns the actions that follow from it; the pool's actor performs them.
///
/// Waiters are served first come, first served; idle connections are lent most recently used first, so that the
/// others age and can be seen to be unneeded. While the last connect failed, at most one connect is under way,
/// with a backoff before each: a hundred waiters are no reason to knock a hundred times.
struct PoolState {
  typealias ConnectionID = Int
  typealias WaiterID = Int

  enum Action: Equatable {
    case give(ConnectionID, to: WaiterID)
    case connect
    /// Wait as the backoff says, then report `backoffElapsed`.
    case backOff
    case close(ConnectionID)
    case fail(WaiterID, Failure)
  }

  enum Failure: Equatable {
    case closed
    /// No connect can succeed; the error is the one of the last connect.
    case cannotConnect
  }

  let maximum: Int
  private(set) var idle: [ConnectionID] = []
  private(set) var leased: Set<ConnectionID> = []
  private(set) var waiters: [WaiterID] = []
  /// Connects under way, those in their backoff included.
  private(set) var connecting = 0
  private(set) var isClosed = false
  private var failing = false

  init(maximum: Int) {
    precondition(maximum > 0, "a pool holds at least one connection")
    self.maximum = maximum
  }

  mutating func acquire(_ waiter: WaiterID) -> [Action] {
    guard !isClosed else { return [.fail(waiter, .closed)] }
    waiters.append(waiter)
    return serve()
  }

  /// The waiter was cancelled or its deadline passed. False when it had been served before.
  mutating func leave(_ waiter: WaiterID) -> Bool {
    guard let position = waiters.firstIndex(of: waiter) else { return false }
    waiters.remove(at: position)
    return true
  }

  mutating func release(_ connection: ConnectionID, reusable: Bool) -> [Action] {
    guard leased.remove(connection) != nil else { return [] }
    guard reusable, !isClosed else { return [.close(connection)] + serve() }
    idle.append(connection)
    return serve()
  }

  mutating func connected(_ connection: ConnectionID) -> [Action] {
    connecting -= 1
    failing = false
    guard !isClosed else { return [.close(connection)] }
    idle.append(connection)
    return serve()
  }

  mutating func connectFailed(transient: Bool) -> [Action] {
    guard transient else {
      connecting -= 1
      let refused = waiters
      waiters = []
      return refused.map { .fail($0, .cannotConnect) }
    }
    failing = true
    guard connecting == 1, !waiters.isEmpty, !isClosed else {
      connecting -= 1
      return []
    }
    return [.backOff]
  }

  mutating func backoffElapsed() -> [Action] {
    connecting -= 1
    return serve()
  }

  mutating func close() -> [Action] {
    guard !isClosed else { return [] }
    isClosed = true
    let actions = idle.map { Action.close($0) } + waiters.map { Action.fail($0, .closed) }
    idle = []
    waiters = []
    return actions
  }

  private mutating func serve() -> [Action] {
    guard !isClosed else { return [] }
    var actions: [Action] = []
    while !waiters.isEmpty, let connection = idle.popLast() {
      leased.insert(connection)
      actions.append(.give(connection, to: waiters.removeFirst()))
    }
    let allowed = failing ? 1 : maximum
    while connecting < min(waiters.count, allowed), idle.count + leased.count + connecting < maximum {
      connecting += 1
      actions.append(.connect)
    }
    return actions
  }
}
