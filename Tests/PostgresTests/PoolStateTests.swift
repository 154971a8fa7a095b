import Testing

@testable import Postgres

/// `#expect` cannot call what mutates.
private func expect<Value: Equatable>(
  _ value: Value, _ expected: Value, sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(value == expected, sourceLocation: sourceLocation)
}

@Suite struct PoolStateTests {
  @Test func opensOnDemandUpToTheMaximumThenInOrderOfArrival() {
    var state = PoolState(maximum: 2)
    expect(state.acquire(1), [.connect])
    expect(state.acquire(2), [.connect])
    expect(state.acquire(3), [])
    expect(state.acquire(4), [])
    expect(state.connected(101), [.give(101, to: 1)])
    expect(state.connected(102), [.give(102, to: 2)])
    expect(state.release(102, reusable: true), [.give(102, to: 3)])
    expect(state.release(101, reusable: true), [.give(101, to: 4)])
    expect(state.release(101, reusable: true), [])
    #expect(state.idle == [101])
  }

  @Test func idleConnectionsAreLentMostRecentFirst() {
    var state = PoolState(maximum: 2)
    _ = state.acquire(1)
    _ = state.acquire(2)
    _ = state.connected(101)
    _ = state.connected(102)
    _ = state.release(101, reusable: true)
    _ = state.release(102, reusable: true)
    expect(state.acquire(3), [.give(102, to: 3)])
  }

  @Test func aSpoiltConnectionIsClosedAndReplaced() {
    var state = PoolState(maximum: 1)
    _ = state.acquire(1)
    _ = state.connected(101)
    _ = state.acquire(2)
    expect(state.release(101, reusable: false), [.close(101), .connect])
    expect(state.connected(102), [.give(102, to: 2)])
  }

  @Test func oneWhoLeavesIsNotServed() {
    var state = PoolState(maximum: 1)
    _ = state.acquire(1)
    _ = state.connected(101)
    _ = state.acquire(2)
    _ = state.acquire(3)
    expect(state.leave(2), true)
    expect(state.leave(2), false)
    expect(state.release(101, reusable: true), [.give(101, to: 3)])
    expect(state.leave(3), false)
  }

  @Test func aConnectionNobodyWaitsForAnyMoreBecomesIdle() {
    var state = PoolState(maximum: 1)
    expect(state.acquire(1), [.connect])
    expect(state.leave(1), true)
    expect(state.connected(101), [])
    expect(state.acquire(2), [.give(101, to: 2)])
  }

  @Test func whileConnectsFailOnlyOneIsUnderWay() {
    var state = PoolState(maximum: 3)
    for waiter in 1...3 { expect(state.acquire(waiter), [.connect]) }
    expect(state.connectFailed(transient: true), [])
    expect(state.connectFailed(transient: true), [])
    expect(state.connectFailed(transient: true), [.backOff])
    expect(state.acquire(4), [])
    expect(state.backoffElapsed(), [.connect])
    expect(state.connected(101), [.give(101, to: 1), .connect, .connect])
  }

  @Test func connectsEndWhenNobodyWaits() {
    var state = PoolState(maximum: 1)
    _ = state.acquire(1)
    expect(state.connectFailed(transient: true), [.backOff])
    expect(state.leave(1), true)
    expect(state.backoffElapsed(), [])
    #expect(state.connecting == 0)
    expect(state.acquire(2), [.connect])
  }

  @Test func whatRepeatingCannotHelpFailsAllWhoWait() {
    var state = PoolState(maximum: 1)
    _ = state.acquire(1)
    _ = state.acquire(2)
    expect(state.connectFailed(transient: false), [.fail(1, .cannotConnect), .fail(2, .cannotConnect)])
    expect(state.acquire(3), [.connect])
  }

  @Test func closingFailsWhoWaitsAndClosesWhatComesBack() {
    var state = PoolState(maximum: 2)
    _ = state.acquire(1)
    _ = state.acquire(2)
    _ = state.connected(101)
    expect(state.close(), [.fail(2, .closed)])
    expect(state.close(), [])
    expect(state.acquire(3), [.fail(3, .closed)])
    expect(state.connected(102), [.close(102)])
    expect(state.release(101, reusable: true), [.close(101)])
  }

  /// Random histories: never more connections than allowed, nobody served twice, nobody forgotten.
  @Test func holdsItsInvariantsInAnyHistory() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<200 {
      let maximum = Int.random(in: 1...4, using: &generator)
      var state = PoolState(maximum: maximum)
      var served: Set<Int> = []
      var connecting = 0
      var backingOff = 0
      var next = 0
      func perform(_ actions: [PoolState.Action]) {
        for action in actions {
          switch action {
          case .give(_, let waiter):
            let first = served.insert(waiter).inserted
            #expect(first)
          case .connect: connecting += 1
          case .backOff: backingOff += 1
          case .close, .fail: break
          }
        }
      }
      for _ in 0..<100 {
        next += 1
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: perform(state.acquire(next))
        case 1 where connecting > 0:
          connecting -= 1
          perform(state.connected(next))
        case 2 where connecting > 0:
          connecting -= 1
          perform(state.connectFailed(transient: true))
        case 3 where backingOff > 0:
          backingOff -= 1
          perform(state.backoffElapsed())
        case 4:
          if let lent = state.leased.randomElement(using: &generator) {
            perform(state.release(lent, reusable: .random(using: &generator)))
          }
        default: break
        }
        #expect(state.idle.count + state.leased.count + state.connecting <= maximum)
        #expect(state.connecting == connecting + backingOff)
        // Somebody waits only while something is on its way to them.
        #expect(state.waiters.isEmpty || state.connecting > 0 || state.leased.count > 0)
        #expect(state.waiters.isEmpty || state.idle.isEmpty)
      }
    }
  }
}
