import Destinations
import Jobs

/// What the line of a ledger tells of a decision, as far as it can be judged again.
public struct RecordedDecision: Sendable, Equatable {
  public let decision: LedgerLine.Decision
  /// RFC 3339, UTC.
  public let at: String
  /// What decided then, in words.
  let rule: String
  let grant: String?
  /// Nil for what could not be read as a request; no grant has to do with that.
  let endpoint: Endpoint?
  let addresses: [IPAddress]
  /// Nil for a connection whose requests were not read.
  let method: String?
  let path: String?
  let sent: Int64
  let received: Int64

  /// Nil for what is no line of a ledger.
  public init?(_ line: JSONValue) {
    guard let decision = line["decision"]?.string.flatMap(LedgerLine.Decision.init), let at = line["at"]?.string,
      let rule = line["rule"]?.string
    else { return nil }
    (self.decision, self.at, self.rule) = (decision, at, rule)
    grant = line["grant"]?.string
    endpoint = line["endpoint"]?.string.flatMap { try? Endpoint(authority: $0) }
    addresses = (line["address"]?.string ?? "").split(separator: ",").compactMap { IPAddress($0) }
    method = line["method"]?.string
    path = line["path"]?.string
    sent = line["sent"]?.integer ?? 0
    received = line["received"]?.integer ?? 0
  }

  /// For people: what was asked, of whom.
  public var request: String {
    ([method, path].compactMap { $0 } + [endpoint.map { "\($0)" } ?? "what could not be read"]).joined(separator: " ")
  }

  /// Queries are not recorded. The route that allowed the request may have taken one, and a denial says that there was one;
  /// nil: nobody knows.
  var hasQuery: Bool? {
    // What a grant with a credential decided is followed by which of its secrets went along.
    let route = rule.firstRange(of: "; credential ").map { rule[..<$0.lowerBound] } ?? rule[...]
    return switch decision {
    case .denied where rule.hasSuffix(" with a query matches none"): true
    case .denied where rule.hasSuffix(" matches none"): false
    case .allowed, .closed: decision == .allowed && !route.hasSuffix("?*") ? false : nil
    case .denied: nil
    }
  }

  /// A path that is longer than what a ledger keeps.
  var isShortened: Bool {
    path.map { $0.utf8.count > LedgerLine.Subject.longestPath || LedgerLine.isShortened($0) } ?? false
  }
}
