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

  /// Puts a policy in force for every job that is enqueued from now on; operators only. Setting the one that is in
  /// force already changes nothing.
  /// - Parameter document: JSON text, at most 64 KiB.
  /// - Returns: the digest of the canonical form that was stored.
  public func setPolicy(_ document: String) async throws -> Digest {
    try Self.digest(try await one(.setPolicy, [Parameter(document)]).get("digest"))
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
