import Broker
import Destinations
import Foundation
import Jobs
import Store

// Theory of operation
//
// The database hands out the lines of its ledgers, the newest attempt first, a page at a time, each with the policy that its attempt
// ran under; and once for each tenant and queue that comes along, what would be in force there. Lines of one attempt follow each
// other, so one attempt is judged at a time (`EgressTrial`), and what is kept does not grow with their number: kinds of flips, and
// the grants that were met. Nothing is written.

/// What a document would have decided about what the broker decided.
struct EgressSimulation {
  /// Decisions of one kind that would be others.
  struct Group: Equatable {
    var flip: EgressTrial.Flip
    /// One of the jobs.
    var job: String
    var attempts = 1
  }

  let document: String
  let scope: PolicyScope
  let seconds: Double
  /// Lines to look at, the newest first.
  let most: Int

  private(set) var lines = 0
  private(set) var attempts = 0
  /// Whether there are more lines than were looked at.
  private(set) var isCut = false
  private(set) var groups: [Group] = []
  private var documents: [String: JSONValue] = [:]

  private static let pageLines = 2_000

  init(_ document: String, scope: PolicyScope, seconds: Double, most: Int) {
    (self.document, self.scope, self.seconds, self.most) = (document, scope, seconds, most)
  }

  /// - Parameter progress: told after each page how many lines were looked at.
  mutating func run(_ store: Store, progress: (Int) -> Void) async throws {
    var last: Store.PastEgress?
    var open: (of: Store.PastEgress, trial: EgressTrial)?
    while true {
      let wanted = min(Self.pageLines, most - lines)
      // One more than is looked at says whether there are more.
      let page = try await store.pastEgress(
        tenant: scope.tenant, queue: scope.queue, seconds: seconds, before: last, most: max(1, wanted))
      guard wanted > 0 else {
        isCut = !page.isEmpty
        break
      }
      for line in page {
        if open.map({ ($0.of.job, $0.of.attempt) != (line.job, line.attempt) }) ?? true {
          finish(open)
          open = (line, EgressTrial(ran: try await ran(line, store), trial: try await trial(line, store)))
          attempts += 1
        }
        if let decision = RecordedDecision(try parseRecord(line.line)) { open?.trial.take(decision) }
      }
      lines += page.count
      last = page.last
      progress(lines)
      if page.count < wanted { break }
    }
    finish(open)
  }

  private mutating func finish(_ open: (of: Store.PastEgress, trial: EgressTrial)?) {
    guard let open else { return }
    for flip in open.trial.result() {
      if let known = groups.firstIndex(where: { $0.flip.isAlike(flip) }) {
        groups[known].flip.add(flip)
        groups[known].attempts += 1
      } else {
        groups.append(Group(flip: flip, job: open.of.job))
      }
    }
  }

  /// What the attempt had of what the job asks for.
  private mutating func ran(_ line: Store.PastEgress, _ store: Store) async throws -> [Grant] {
    let name = line.policy.description
    if documents[name] == nil {
      documents[name] = try parseRecord(try await store.policyDocument(line.policy).document)
    }
    return try grants(line, documents[name])
  }

  /// What it would have.
  private mutating func trial(_ line: Store.PastEgress, _ store: Store) async throws -> [Grant] {
    // No digest of a document, and no queue has a slash in its name.
    let name = "\(line.queue)/\(line.tenant)"
    if documents[name] == nil {
      documents[name] = try parseRecord(
        try await store.trialDocument(
          document, boundTo: scope.tenant, queue: scope.queue, ofTenant: line.tenant, ofQueue: line.queue))
    }
    return try grants(line, documents[name])
  }

  private func grants(_ line: Store.PastEgress, _ document: JSONValue?) throws -> [Grant] {
    let offered = document?["grants"]?.object ?? [:]
    return try (try parseRecord(line.grants).array ?? []).compactMap(\.string).compactMap { name in
      try offered[name].map { try Grant(name: name, json: $0) }
    }
  }

  /// Those of one kind, the most frequent first.
  func groups(_ change: EgressTrial.Flip.Change) -> [Group] {
    groups.filter { $0.flip.change == change }.sorted {
      ($1.flip.lines, $0.flip.rule) < ($0.flip.lines, $1.flip.rule)
    }
  }

  var json: JSONValue {
    func list(_ change: EgressTrial.Flip.Change) -> JSONValue {
      .array(
        groups(change).map { group in
          .object([
            "grant": group.flip.grant.map { .string($0) } ?? .null, "rule": .string(group.flip.rule),
            "lines": .integer(Int64(group.flip.lines)), "attempts": .integer(Int64(group.attempts)),
            "first": .string(group.flip.first), "last": .string(group.flip.last),
            "request": .string(group.flip.request), "example": .string(group.job),
          ])
        })
    }
    return .object([
      "lines": .integer(Int64(lines)), "attempts": .integer(Int64(attempts)), "more": .bool(isCut),
      "would_be_denied": list(.denied), "would_be_allowed": list(.allowed), "cannot_be_told": list(.unknown),
    ])
  }
}
