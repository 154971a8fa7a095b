/// Finds any of many byte strings in one pass (Aho and Corasick, 1975).
///
/// A state is the longest beginning of a pattern that what was read ends with. A byte leads to the state that is one
/// longer, or, over shorter and shorter ends, to one that takes it; no byte is read twice. Every step down was paid by
/// a step up, so a text of n bytes takes at most 2n steps whatever it and the patterns are.
struct SecretAutomaton: Sendable {
  /// Bytes of all patterns together: a state takes some tens of bytes, and there are no more states than this.
  static let mostPatternBytes = 1 << 20

  struct Found: Sendable {
    /// Behind the last byte, in what was scanned.
    let end: Int
    let length: Int
    let name: Int
  }

  private struct State: Sendable {
    /// Length of the beginning that it is.
    var depth: Int32 = 0
    /// How much of what was read may still be the beginning of a pattern that goes on.
    var open: Int32 = 0
    /// The longest pattern it ends with; others lie inside that one. A length of 0 is none.
    var found: Int32 = 0
    var name: Int32 = 0
    /// The longest shorter beginning it ends with.
    var shorter: Int32 = 0
    /// Its edges are those from here to where the next state's begin.
    var firstEdge: Int32 = 0
  }

  private struct Edge: Sendable {
    let byte: UInt8
    let state: Int32
  }

  private var states = [State()]
  private var edges: [Edge] = []
  /// The edges of the state that is nothing, from which most bytes lead back to it.
  private var fromStart = [Int32](repeating: 0, count: 256)

  private(set) var longest = 0

  /// - Parameter patterns: each with the number of its name; of equal ones the first counts.
  /// - Throws: `CredentialError` where they are too many for bounded memory.
  init(_ patterns: [(name: Int, bytes: [UInt8])]) throws(CredentialError) {
    let total = patterns.reduce(0) { $0 + $1.bytes.count }
    guard total <= Self.mostPatternBytes else {
      throw CredentialError(
        .unusable,
        "the secrets of one attempt have \(total) bytes in all their spellings; "
          + "at most \(Self.mostPatternBytes) are looked for")
    }
    var children: [[Edge]] = [[]]
    for pattern in patterns where !pattern.bytes.isEmpty {
      var state = 0
      for byte in pattern.bytes {
        if let known = children[state].first(where: { $0.byte == byte }) {
          state = Int(known.state)
        } else {
          children[state].append(Edge(byte: byte, state: Int32(states.count)))
          state = states.count
          children.append([])
          states.append(State())
        }
      }
      if states[state].found == 0 {
        states[state].found = Int32(pattern.bytes.count)
        states[state].name = Int32(pattern.name)
      }
      longest = max(longest, pattern.bytes.count)
    }
    for (state, own) in children.enumerated() {
      states[state].firstEdge = Int32(edges.count)
      edges += own
    }
    // Where the last state's edges end.
    states.append(State(firstEdge: Int32(edges.count)))
    for edge in children[0] { fromStart[Int(edge.byte)] = edge.state }
    link(children)
  }

  /// By length, so that what a state falls back to is complete before it.
  private mutating func link(_ children: [[Edge]]) {
    var queue = [0]
    var next = 0
    while next < queue.count {
      let state = queue[next]
      next += 1
      for edge in children[state] {
        let child = Int(edge.state)
        let shorter = state == 0 ? 0 : step(from: Int(states[state].shorter), edge.byte)
        states[child].depth = states[state].depth + 1
        states[child].shorter = Int32(shorter)
        states[child].open = children[child].isEmpty ? states[shorter].open : states[child].depth
        if states[child].found == 0 {
          states[child].found = states[shorter].found
          states[child].name = states[shorter].name
        }
        queue.append(child)
      }
    }
  }

  private func step(from state: Int, _ byte: UInt8) -> Int {
    var state = state
    var steps = 0
    scan([byte], from: &state, steps: &steps) { _ in }
    return state
  }

  /// How many of the bytes read last have to be held back.
  func held(_ state: Int) -> Int { Int(states[state].open) }

  /// - Parameters:
  ///   - state: where the bytes before led to, and where these do.
  ///   - steps: counts each look at a state.
  ///   - report: is told of each place at which a pattern ends, in order.
  func scan(_ bytes: ArraySlice<UInt8>, from state: inout Int, steps: inout Int, report: (Found) -> Void) {
    // Checks of bounds and counts of references would be most of the work here.
    states.withUnsafeBufferPointer { states in
      edges.withUnsafeBufferPointer { edges in
        fromStart.withUnsafeBufferPointer { fromStart in
          bytes.withUnsafeBufferPointer { bytes in
            var current = state
            var looks = 0
            for (offset, byte) in bytes.enumerated() {
              following: while true {
                looks += 1
                if current == 0 {
                  current = Int(fromStart[Int(byte)])
                  break
                }
                for edge in Int(states[current].firstEdge)..<Int(states[current + 1].firstEdge)
                where edges[edge].byte == byte {
                  current = Int(edges[edge].state)
                  break following
                }
                current = Int(states[current].shorter)
              }
              let found = Int(states[current].found)
              if found > 0 { report(Found(end: offset + 1, length: found, name: Int(states[current].name))) }
            }
            state = current
            steps += looks
          }
        }
      }
    }
  }
}
