/// What going through every reachable state found.
public struct Exploration: Sendable {
  public var states = 0
  public var transitions = 0
  /// The first violation, by a shortest way to it.
  public var violation: Violation?
  /// The actions that lead to it.
  public var trace: [Action] = []
}

extension LeaseState {
  /// Breadth first through all states. Stops at the first violation; where there is none, asks of every state whether
  /// some way leads from it to one where nothing is owed.
  ///
  /// - Parameter limit: the most states to keep; more than that is a mistake in the choice of the model's size.
  public func explore(rules: Rules = [], limit: Int = 5_000_000) -> Exploration {
    var result = Exploration()
    var states = [self]
    var numbers: [LeaseState: Int32] = [self: 0]
    var parents: [(state: Int32, action: Action?)] = [(-1, nil)]
    var edges: [(from: Int32, to: Int32)] = []
    var current = 0

    func trace(to state: Int32) -> [Action] {
      var actions: [Action] = []
      var at = state
      while at >= 0, let action = parents[Int(at)].action {
        actions.append(action)
        at = parents[Int(at)].state
      }
      return actions.reversed()
    }

    while current < states.count {
      for step in states[current].steps(rules: rules) {
        result.transitions += 1
        if let problem = step.problem {
          result.states = states.count
          result.violation = problem
          result.trace = trace(to: Int32(current)) + [step.action]
          return result
        }
        let number: Int32
        if let known = numbers[step.next] {
          number = known
        } else {
          number = Int32(states.count)
          precondition(states.count < limit, "more than \(limit) states")
          numbers[step.next] = number
          states.append(step.next)
          parents.append((Int32(current), step.action))
        }
        edges.append((Int32(current), number))
      }
      current += 1
    }
    result.states = states.count
    if let stuck = Self.firstStuck(states, edges) {
      result.violation = .stuck
      result.trace = trace(to: stuck)
    }
    return result
  }

  /// The first state from which no way leads to a settled one.
  private static func firstStuck(_ states: [LeaseState], _ edges: [(from: Int32, to: Int32)]) -> Int32? {
    // Edges by where they lead, as one array and where each state's part of it begins.
    var begins = [Int32](repeating: 0, count: states.count + 1)
    for edge in edges { begins[Int(edge.to) + 1] += 1 }
    for state in states.indices { begins[state + 1] += begins[state] }
    var filled = begins
    var sources = [Int32](repeating: 0, count: edges.count)
    for edge in edges {
      sources[Int(filled[Int(edge.to)])] = edge.from
      filled[Int(edge.to)] += 1
    }
    var reaches = states.map(\.isSettled)
    var open = states.indices.filter { reaches[$0] }
    while let state = open.popLast() {
      for source in sources[Int(begins[state])..<Int(begins[state + 1])] where !reaches[Int(source)] {
        reaches[Int(source)] = true
        open.append(Int(source))
      }
    }
    return reaches.firstIndex(of: false).map { Int32($0) }
  }
}
