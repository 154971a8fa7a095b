import Destinations

/// A refusal in words, each naming the rule that was missing or the limit that was reached.
struct Denial: Error, Equatable {
  let rule: String
  /// What a client of HTTP is told.
  var status = 403

  /// One line, as it is answered.
  var line: String { "cordon: denied: \(rule)" }
}

/// What an attempt has used, and whether it may go on; a value, without I/O.
struct EgressAccount: Sendable {
  private let limits: SessionLimits
  private var used: [String: Grant.Budget] = [:]
  private(set) var connections = 0
  /// Why credentials are no longer given out.
  private var withheld: String?
  /// Why nothing goes on.
  private(set) var ended: String?

  init(limits: SessionLimits) {
    self.limits = limits
  }

  mutating func withhold(_ reason: String) { withheld = withheld ?? reason }

  mutating func end(_ reason: String) { ended = ended ?? reason }

  /// A connection of the job, before anything is read of it.
  mutating func accept() throws(Denial) {
    try goesOn()
    guard connections < limits.connections else {
      throw Denial(rule: "limit connections: \(limits.connections) at once are open")
    }
    connections += 1
  }

  mutating func hangUp() { connections -= 1 }

  /// What something that is allowed counts for.
  struct Use: Equatable, Sendable {
    var connects = false
    var requests = false
    var injects = false
  }

  mutating func begin(_ use: Use, of grant: Grant) throws(Denial) {
    try goesOn()
    if use.injects, let withheld {
      throw Denial(rule: "grant \"\(grant.name)\": credentials are withheld: \(withheld)")
    }
    var budget = used[grant.name] ?? .none
    if use.connects {
      budget.connections += 1
      try check(budget.connections, grant.most.connections, "connections", grant)
    }
    if use.requests {
      budget.requests += 1
      try check(budget.requests, grant.most.requests, "requests", grant)
    }
    used[grant.name] = budget
  }

  func mayInject(for grant: Grant) throws(Denial) {
    if let withheld { throw Denial(rule: "grant \"\(grant.name)\": credentials are withheld: \(withheld)") }
  }

  /// Before the bytes are passed on.
  mutating func spend(sent: Int = 0, received: Int = 0, of grant: Grant) throws(Denial) {
    try goesOn()
    var budget = used[grant.name] ?? .none
    budget.sentBytes += Int64(sent)
    budget.receivedBytes += Int64(received)
    try check(budget.sentBytes, grant.most.sentBytes, "sent", grant)
    try check(budget.receivedBytes, grant.most.receivedBytes, "received", grant)
    used[grant.name] = budget
  }

  private func goesOn() throws(Denial) {
    if let ended { throw Denial(rule: ended) }
  }

  private func check(_ amount: Int64, _ most: Int64, _ what: String, _ grant: Grant) throws(Denial) {
    guard amount <= most else {
      throw Denial(rule: grant.usedUp(what, most))
    }
  }
}

extension Grant {
  /// The rule that denies what is beyond an amount of `most`.
  func usedUp(_ what: String, _ most: Int64) -> String { "grant \"\(name)\": most.\(what) of \(most) is used up" }
}

extension Grant.Budget {
  static let none = Grant.Budget(sentBytes: 0, receivedBytes: 0, requests: 0, connections: 0)
}
