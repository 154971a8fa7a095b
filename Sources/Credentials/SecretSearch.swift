/// Looks for the secrets of a `Redactor` in one text, in pieces of any size, and keeps none of it.
public struct SecretSearch: Sendable {
  private let automaton: SecretAutomaton
  private var state = 0
  private var steps = 0
  public private(set) var hasFound = false

  public init(_ redactor: Redactor) {
    automaton = redactor.automaton
  }

  /// - Returns: whether one has been found by now.
  public mutating func push(_ bytes: ArraySlice<UInt8>) -> Bool {
    var isThere = hasFound
    automaton.scan(bytes, from: &state, steps: &steps) { _ in isThere = true }
    hasFound = isThere
    return isThere
  }
}
