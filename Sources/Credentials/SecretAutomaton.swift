/// Finds any of many byte strings in one pass (Aho and Corasick, 1975).
///
/// A state is the longest beginning of a pattern that what was read ends with. A byte leads to the state that is one
/// longer, or, over shorter and shorter ends, to one that takes it; no byte is read twice. Every step down was paid by
/// a step up, so a text of n bytes takes at most 2n steps whatever it and the patterns are.
struct SecretAutomaton: Sendable {
  /// Bytes of all patterns together: a state takes some tens of bytes, and there are no more states than this.
  static let mostPatternBytes = 1 << 20

  struct Found: Sendable {
    let name: Int32
    let length: Int32
  }

  /// Length of the beginning that a state is.
  private var depth: [Int32] = [0]
  /// How much of what was read may still be the beginning of a pattern that goes on.
  private var open: [Int32] = [0]
  /// The longest pattern that a state ends with; others it ends with lie inside that one. A length of 0 is none.
  private var found: [Found] = [Found(name: 0, length: 0)]
  private var shorter: [Int32] = [0]
  /// The edges of state s are those from `firstEdge[s]` to before `firstEdge[s + 1]`.
  private var firstEdge: [Int32] = []
  private var edgeBytes: [UInt8] = []
  private var edgeStates: [Int32] = []
  /// Of the state that is nothing, from which most bytes lead back to it.
  private var fromStart = [Int32](repeating: 0, count: 256)

  private(set) var longest = 0

  /// - Parameter patterns: each with the number of its name; of equal ones the first counts.
  /// - Throws: `CredentialError` where they are too many for bounded memory.
  init(_ patterns: [(name: Int, bytes: [UInt8])]) throws(CredentialError) {
    let total = patterns.reduce(0) { $0 + $1.bytes.count }
    guard total <= Self.mostPatternBytes else {
      throw CredentialError(
        .unusable,
        "the secrets of one attempt have \(total) bytes in all their spellings; at most \(Self.mostPatternBytes) are looked for"
      )
    }
    var children: [[(byte: UInt8, state: Int32)]] = [[]]
    for pattern in patterns where !pattern.bytes.isEmpty {
      var state = 0
      for byte in pattern.bytes {
        if let known = children[state].first(where: { $0.byte == byte }) {
          state = Int(known.state)
        } else {
          children[state].append((byte, Int32(depth.count)))
          state = depth.count
          children.append([])
          depth.append(0)
          open.append(0)
          found.append(Found(name: 0, length: 0))
          shorter.append(0)
        }
      }
      if found[state].length == 0 {
        found[state] = Found(name: Int32(pattern.name), length: Int32(pattern.bytes.count))
      }
      longest = max(longest, pattern.bytes.count)
    }
    for edges in children {
      firstEdge.append(Int32(edgeBytes.count))
      for edge in edges {
        edgeBytes.append(edge.byte)
        edgeStates.append(edge.state)
      }
    }
    firstEdge.append(Int32(edgeBytes.count))
    for edge in children[0] { fromStart[Int(edge.byte)] = edge.state }
    link(children)
  }

  /// By length, so that what a state falls back to is complete before it.
  private mutating func link(_ children: [[(byte: UInt8, state: Int32)]]) {
    var queue: [Int] = [0]
    var next = 0
    while next < queue.count {
      let state = queue[next]
      next += 1
      for edge in children[state] {
        let child = Int(edge.state)
        depth[child] = depth[state] + 1
        if state != 0 {
          var steps = 0
          shorter[child] = Int32(successor(of: Int(shorter[state]), edge.byte, &steps))
        }
        open[child] = children[child].isEmpty ? open[Int(shorter[child])] : depth[child]
        if found[child].length == 0 { found[child] = found[Int(shorter[child])] }
        queue.append(child)
      }
    }
  }

  /// How many of the bytes read last have to be held back.
  func held(_ state: Int) -> Int { Int(open[state]) }

  /// What the state ends with.
  func match(_ state: Int) -> Found? { found[state].length == 0 ? nil : found[state] }

  /// - Parameter steps: counts each look at a state.
  func successor(of state: Int, _ byte: UInt8, _ steps: inout Int) -> Int {
    var state = state
    while true {
      steps += 1
      if state == 0 { return Int(fromStart[Int(byte)]) }
      var edge = Int(firstEdge[state])
      let end = Int(firstEdge[state + 1])
      while edge < end {
        if edgeBytes[edge] == byte { return Int(edgeStates[edge]) }
        edge += 1
      }
      state = Int(shorter[state])
    }
  }
}
