import FoundationEssentials
import Jobs
import Postgres

// The operator's side: the policy in force and the workers that serve. A refusal is a `PostgresError` of kind `server`:
// SQLSTATE 22023 names the path in the document that is at fault.
extension Store {
  /// A policy document and since when it has been in force.
  public struct PolicyInForce: Sendable, Equatable {
    public let digest: Digest
    /// The canonical text that has this digest.
    public let document: String
    public let since: Date
    /// The role whose session put it in force.
    public let setBy: String
  }

  /// Puts a policy in force for everybody; operators only. Setting the one that is in force already changes nothing. Jobs that
  /// wait are judged again.
  /// - Parameters:
  ///   - document: JSON text, at most 64 KiB.
  ///   - source: the text it was written as, which explanations point into.
  /// - Returns: the digest of the canonical form that was stored.
  public func setPolicy(_ document: String, source: String? = nil) async throws -> Digest {
    try Self.digest(try await one(.setPolicy, [Parameter(document), Parameter(source)]).get("digest"))
  }

  /// Narrows what a tenant, a queue, or a tenant in a queue may do, in the place of what was bound there; operators only.
  /// - Returns: the document's digest, and whether anybody has that tenant yet.
  public func bindPolicy(
    _ document: String, tenant: String?, queue: String?, source: String? = nil
  ) async throws -> (digest: Digest, isKnown: Bool) {
    let row = try await one(
      .bindPolicy, [Parameter(document), Parameter(tenant), Parameter(queue), Parameter(source)])
    return (try Self.digest(try row.get("digest")), try row.get("is_known"))
  }

  /// - Returns: false where nothing is bound.
  public func unbindPolicy(tenant: String?, queue: String?) async throws -> Bool {
    try await one(.unbindPolicy, [Parameter(tenant), Parameter(queue)]).get("changed")
  }

  /// The ceiling and the bindings, or all that ever were, as JSON texts, the newest first; for operators and auditors.
  public func policyHistory(everything: Bool) async throws -> [String] {
    try await all(.policyHistory, [Parameter(everything)]).map { try $0.get("entry") }
  }

  /// A document that is or was in force or bound.
  public struct StoredPolicy: Sendable, Equatable {
    /// The canonical text.
    public let document: String
    /// As it was written; nil where nobody said.
    public let source: String?
    /// Whether it can only narrow another.
    public let narrows: Bool
  }

  /// - Throws: SQLSTATE CD404 for a digest that is unknown.
  public func policyDocument(_ digest: Digest) async throws -> StoredPolicy {
    let row = try await one(.policyDocument, [Parameter(digest.description)])
    return StoredPolicy(
      document: try row.get("document"), source: try row.get("source"), narrows: try row.get("narrows"))
  }

  /// What a tenant may do in a queue, which document decided each member, and of a request why it would be refused, as JSON
  /// text; for operators and auditors.
  /// - Parameter specification: JSON text.
  public func explainPolicy(tenant: String?, queue: String?, specification: String? = nil) async throws -> String {
    try await one(.explainPolicy, [Parameter(tenant), Parameter(queue), Parameter(specification)]).get("explanation")
  }

  /// Which jobs of the past a document would have refused, or not have held, and what it would have given them less of, had it been in
  /// force or bound there, as JSON text; operators only.
  /// - Parameters:
  ///   - seconds: how far to look back.
  ///   - most: jobs to look at, the newest first.
  public func simulatePolicy(
    _ document: String, tenant: String?, queue: String?, seconds: Double, most: Int
  ) async throws -> String {
    try await one(
      .simulatePolicy,
      [Parameter(document), Parameter(tenant), Parameter(queue), Parameter(seconds), Parameter(most)]
    ).get("outcome")
  }

  /// A line of a past attempt's ledger, with what is needed to judge it again.
  public struct PastEgress: Sendable, Equatable {
    public let job: String
    public let attempt: Int
    public let seq: Int64
    /// As it is chained.
    public let line: String
    public let tenant: String
    public let queue: String
    /// Names that the job asked for, as a JSON array.
    public let grants: String
    /// What the attempt ran under.
    public let policy: Digest
  }

  /// Ledger lines of jobs that were enqueued since, the newest first; operators only.
  /// - Parameters:
  ///   - seconds: how far to look back.
  ///   - before: the last line of the page before; nil for the first page.
  ///   - most: 1 to 10000.
  public func pastEgress(
    tenant: String?, queue: String?, seconds: Double, before: PastEgress?, most: Int
  ) async throws -> [PastEgress] {
    let rows = try await all(
      .pastEgress,
      [
        Parameter(seconds), Parameter(tenant), Parameter(queue), Parameter(before?.job), Parameter(before?.attempt),
        Parameter(before?.seq), Parameter(most),
      ])
    return try rows.map { row in
      PastEgress(
        job: try row.get("job"), attempt: try row.get("attempt"), seq: try row.get("seq"), line: try row.get("line"),
        tenant: try row.get("tenant"), queue: try row.get("queue"), grants: try row.get("grants"),
        policy: try Self.digest(try row.get("policy")))
    }
  }

  /// What would be in force for a tenant in a queue, were a document in force, or bound there, as JSON text; operators only.
  public func trialDocument(
    _ document: String, boundTo tenant: String?, queue: String?, ofTenant: String, ofQueue: String
  ) async throws -> String {
    try await one(
      .trialDocument,
      [Parameter(document), Parameter(tenant), Parameter(queue), Parameter(ofTenant), Parameter(ofQueue)]
    ).get("document")
  }

  /// The policy in force; for workers, operators and auditors.
  public func policyInForce() async throws -> PolicyInForce {
    let row = try await one(.showPolicy)
    return PolicyInForce(
      digest: try Self.digest(try row.get("digest")), document: try row.get("document"), since: try row.get("since"),
      setBy: try row.get("set_by"))
  }

  /// The workers the database knows as JSON texts, the newest first; for operators and auditors.
  public func workers() async throws -> [String] {
    try await all(.workers).map { try $0.get("worker") }
  }

  private static func digest(_ text: String) throws -> Digest {
    guard let digest = Digest(text) else { throw PostgresError(.decoding, "\(text) is no digest") }
    return digest
  }
}
