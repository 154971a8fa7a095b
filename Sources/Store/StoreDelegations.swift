import FoundationEssentials
import Postgres

// Who acts for whom. A person says so for itself, an operator for others.
extension Store {
  /// Lets an agent act for a person, in place of what it was let do before. Jobs of the agent may then say so.
  /// - Parameters:
  ///   - agent: a principal of kind agent, of the person's tenant.
  ///   - scopes: 1 to 32 words (RFC 6749, section 3.3).
  ///   - expiresAt: within a year.
  ///   - person: nil is the session's own role; another is for operators.
  /// - Throws: SQLSTATE 42501 where the person is none, or may not, or the agent is none of its tenant.
  public func delegate(
    to agent: String, scopes: [String], expiresAt: Date, person: String? = nil
  ) async throws {
    try await all(.delegate, [Parameter(agent), Parameter(scopes), Parameter(expiresAt), Parameter(person)])
  }

  /// Ends it: what waits is held, what runs is ended, its tokens are inactive at once. False where there is none.
  public func undelegate(_ agent: String, person: String? = nil) async throws -> Bool {
    try await one(.undelegate, [Parameter(agent), Parameter(person)]).get("ended")
  }

  /// Those that the session gave or has, as JSON texts; all of them for operators and auditors.
  public func delegations() async throws -> [String] {
    try await all(.delegations).map { try $0.get("delegation") }
  }
}
