import Postgres

// The kill switch. From the commit of a revocation on nothing of its target is accepted or starts; what runs goes on, stands still or
// is over, as the mode says.
extension Store {
  public enum RevocationKind: String, Sendable, CaseIterable {
    case tenant, principal, policy, code, credential, worker, job
  }

  public enum RevocationMode: String, Sendable, CaseIterable {
    /// What runs goes on to its end.
    case drain
    /// What runs stands still until the revocation is lifted, or becomes a `kill`. Its limits of time pass.
    case freeze
    /// What runs is over, and nothing of it is published.
    case kill
  }

  /// What a revocation did at once.
  public struct RevocationEffect: Sendable, Equatable {
    /// Attempts that had been claimed and had not begun.
    public let recalled: Int
    public let frozen: Int
    public let killed: Int
    /// Whether there is anything of that name: one that is misspelt stops nobody.
    public let isKnown: Bool
  }

  /// Revokes, or changes the mode of a revocation; operators only.
  /// - Parameters:
  ///   - target: a tenant, a role, the digest of a policy or of a program, a worker's name or number, a job's id.
  ///   - reason: stands in the record of every attempt that is ended.
  /// It waits for nobody. What a session keeps locked at that moment is left to `enforceRevocations`, and to the next heartbeat
  /// of its worker.
  public func revoke(
    _ kind: RevocationKind, _ target: String, mode: RevocationMode, reason: String
  ) async throws -> RevocationEffect {
    let row = try await one(
      .revoke, [Parameter(kind.rawValue), Parameter(target), Parameter(mode.rawValue), Parameter(reason)])
    return RevocationEffect(
      recalled: try row.get("recalled"), frozen: try row.get("frozen"), killed: try row.get("killed"),
      isKnown: try row.get("is_known"))
  }

  /// Looks once more for what runs of what is revoked; operators only.
  public func enforceRevocations() async throws -> RevocationEffect {
    let row = try await one(.enforceRevocations)
    return RevocationEffect(
      recalled: try row.get("recalled"), frozen: try row.get("frozen"), killed: try row.get("killed"), isKnown: true)
  }

  /// Lifts a revocation: what is frozen goes on, what is held is judged anew.
  /// - Returns: false where there is none.
  public func liftRevocation(_ kind: RevocationKind, _ target: String, reason: String) async throws -> Bool {
    try await one(.liftRevocation, [Parameter(kind.rawValue), Parameter(target), Parameter(reason)]).get("changed")
  }

  /// What is revoked, or all that was decided, as JSON texts; for operators and auditors.
  public func revocations(everything: Bool) async throws -> [String] {
    try await all(.revocations, [Parameter(everything)]).map { try $0.get("entry") }
  }

  /// A number that changes with each decision; for workers.
  public func revocationEpoch() async throws -> Int64 {
    try await one(.revocationEpoch).get("epoch")
  }
}
