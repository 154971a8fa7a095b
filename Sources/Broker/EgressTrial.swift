import Destinations

// What grants would decide about what was decided under others: a value, without I/O. It judges by the same functions as the broker
// (`RoutePattern.matches`, `Dialling.objection`, `Grant.usedUp`), on what is on record. That is less than the broker saw: no query, no
// address of what was denied, no moment at which an amount was used up. Where that leaves two answers, it gives none.

/// What a set of grants decides about something that was decided before.
enum TrialVerdict: Equatable {
  case allowed
  case denied(rule: String)
  /// Why it cannot be told.
  case unknown(String)
}

/// The decisions of one attempt under the grants that it ran with, and what others would have made of them.
public struct EgressTrial: Sendable {
  /// Decisions of one kind that would be others.
  public struct Flip: Sendable, Equatable {
    public enum Change: String, Sendable, CaseIterable {
      case denied, allowed, unknown
    }

    public let change: Change
    /// Nil where none was named.
    public let grant: String?
    /// What would decide, in words, or why it cannot be told.
    public let rule: String
    public internal(set) var lines: Int
    public internal(set) var first: String
    public internal(set) var last: String
    /// One of them.
    public internal(set) var request: String

    /// With another of the same kind, of another attempt or of this one.
    public mutating func add(_ other: Flip) {
      lines += other.lines
      first = min(first, other.first)
      if other.last > last { (last, request) = (other.last, other.request) }
    }

    public func isAlike(_ other: Flip) -> Bool {
      (change, grant, rule) == (other.change, other.grant, other.rule)
    }
  }

  private let ran: [Grant]
  private let trial: [Grant]
  private var flips: [Flip] = []
  private var used: [String: Grant.Budget] = [:]
  /// The last decision that counted for an amount, by grant.
  private var counted: [String: RecordedDecision] = [:]

  /// - Parameters:
  ///   - ran: what the job asked for, as its attempt had it.
  ///   - trial: what it would have of that.
  public init(ran: [Grant], trial: [Grant]) {
    self.ran = ran
    self.trial = trial
  }

  /// In any order; each once.
  public mutating func take(_ decision: RecordedDecision) {
    let (before, after) = (ran.first { $0.leads(to: decision) }, trial.first { $0.leads(to: decision) })
    switch decision.decision {
    case .denied:
      if before != after { takeDenied(decision, before, after) }
    case .allowed:
      let verdict = before == after ? .allowed : verdict(on: decision, before, after)
      if case .denied(let rule) = verdict { return note(.denied, rule, decision) }
      if case .unknown(let why) = verdict { note(.unknown, why, decision) }
      count(decision, of: after)
    case .closed:
      if case .denied = verdict(on: decision, before, after) { return }
      count(decision, of: after)
    }
  }

  private mutating func takeDenied(_ decision: RecordedDecision, _ before: Grant?, _ after: Grant?) {
    if let before, let after {
      for amount in Grant.Budget.amounts where decision.rule == before.usedUp(amount.name, amount.of(before.most)) {
        guard amount.of(after.most) > amount.of(before.most) else { return }
        return note(.allowed, "grant \"\(after.name)\": most.\(amount.name) is \(amount.of(after.most))", decision)
      }
      if decision.rule.hasPrefix(before.noAddress) {
        guard before.allowPrivate != after.allowPrivate else { return }
        return note(.unknown, "grant \"\(after.name)\": which addresses its name had is not on record", decision)
      }
    }
    // What its own grants allow was denied for another reason, which stands.
    guard case .denied = verdict(on: decision, nil, before) else { return }
    switch verdict(on: decision, before, after) {
    case .allowed:
      let route = after.flatMap { $0.route(for: decision) }
      note(.allowed, "grant \"\(after?.name ?? "")\": \(route.map { "\($0)" } ?? "leads there")", decision)
    case .unknown(let why): note(.unknown, why, decision)
    case .denied: break
    }
  }

  private mutating func note(_ change: Flip.Change, _ rule: String, _ decision: RecordedDecision, lines: Int = 1) {
    let grant = decision.grant ?? trial.first { $0.leads(to: decision) }?.name
    let flip = Flip(
      change: change, grant: grant, rule: rule, lines: lines, first: decision.at, last: decision.at,
      request: decision.request)
    if let known = flips.firstIndex(where: { $0.isAlike(flip) }) { flips[known].add(flip) } else { flips.append(flip) }
  }

  private mutating func count(_ decision: RecordedDecision, of grant: Grant?) {
    guard let grant else { return }
    var budget = used[grant.name] ?? .none
    if decision.decision == .closed {
      budget.sentBytes += decision.sent
      // What the job was not told of counts for no amount.
      if grant.answer == .whole { budget.receivedBytes += decision.received }
    } else if decision.method == nil {
      budget.connections += 1
    } else {
      // How many connections these took is not on record.
      budget.requests += 1
    }
    used[grant.name] = budget
    if decision.at >= counted[grant.name]?.at ?? "" { counted[grant.name] = decision }
  }

  /// All that would be otherwise; asked when every decision of the attempt was taken.
  public func result() -> [Flip] {
    var whole = self
    for grant in trial where ran.first(where: { $0.name == grant.name })?.most != grant.most {
      guard let budget = used[grant.name], let last = counted[grant.name] else { continue }
      for amount in Grant.Budget.amounts where amount.of(budget) > amount.of(grant.most) {
        let excess = amount.isBytes ? 1 : Int(amount.of(budget) - amount.of(grant.most))
        whole.note(.denied, grant.usedUp(amount.name, amount.of(grant.most)), last, lines: excess)
      }
    }
    return whole.flips
  }

  private func verdict(on decision: RecordedDecision, _ before: Grant?, _ after: Grant?) -> TrialVerdict {
    guard let endpoint = decision.endpoint else { return .unknown("what could not be read is judged by no grant") }
    guard let after else { return .denied(rule: "no grant that the job asks for leads to \(endpoint)") }
    if let before {
      if before.phase != after.phase {
        return .denied(rule: "grant \"\(after.name)\" is of phase \(after.phase.rawValue)")
      }
      if before.listenPort != after.listenPort {
        return .unknown("grant \"\(after.name)\" listens on port \(after.listenPort), not \(before.listenPort)")
      }
    }
    let objections = decision.addresses.map { ($0, Dialling.objection(to: $0, for: after, own: [])) }
    if !objections.isEmpty, objections.allSatisfy({ $0.1 != nil }) {
      let reasons = objections.map { "\($0.0) is \($0.1 ?? "")" }.joined(separator: ", ")
      return .denied(rule: "\(after.noAddress): \(reasons), and allow_private lists no block around it")
    }
    if let before, before.mode != after.mode {
      return .unknown("grant \"\(after.name)\" is of mode \(after.mode.rawValue), not \(before.mode.rawValue)")
    }
    guard let method = decision.method, let path = decision.path, after.mode.readsRequests else {
      guard decision.method == "CONNECT", after.mode == .http else { return .allowed }
      return .denied(rule: "grant \"\(after.name)\" is of mode http: ask for it without TLS")
    }
    guard !decision.isShortened else { return .unknown("the whole path is not on record") }
    let isPlainAllowed = after.allow.contains { $0.matches(method: method, target: path) }
    let isQueryAllowed = after.allow.contains { $0.matches(method: method, target: path + "?") }
    switch (decision.hasQuery, isPlainAllowed, isQueryAllowed) {
    case (false?, true, _), (true?, _, true), (nil, true, true): return .allowed
    case (false?, false, _), (true?, _, false), (nil, false, false): return .denied(rule: after.allowedInWords)
    case (nil, _, _): return .unknown("\(after.allowedInWords), and whether there was a query is not on record")
    }
  }
}

extension Grant {
  /// As the broker finds the grant for a request.
  fileprivate func leads(to decision: RecordedDecision) -> Bool {
    guard let endpoint = decision.endpoint else { return false }
    return endpoint == self.endpoint
      || mode == .http && decision.grant == nil && endpoint == Endpoint(host: host, port: listenPort)
  }

  fileprivate func route(for decision: RecordedDecision) -> RoutePattern? {
    guard let method = decision.method, let path = decision.path else { return nil }
    let target = path + (decision.hasQuery == true ? "?" : "")
    return allow.first { $0.matches(method: method, target: target) }
  }
}

extension Grant.Budget {
  fileprivate struct Amount {
    let name: String
    let isBytes: Bool
    let of: (Grant.Budget) -> Int64
  }

  fileprivate static var amounts: [Amount] {
    [
      Amount(name: "sent", isBytes: true) { $0.sentBytes },
      Amount(name: "received", isBytes: true) { $0.receivedBytes },
      Amount(name: "requests", isBytes: false) { $0.requests },
      Amount(name: "connections", isBytes: false) { $0.connections },
    ]
  }
}
