import FoundationEssentials
import Postgres

// How workers come to their logins (sql/migrations/0055_enrolment.sql). What is sent of a password is its SCRAM verifier.
extension Store {
  /// Makes a login that may enrol one worker; operators only.
  /// - Parameters:
  ///   - tenant: whose jobs the worker is given; nil is every tenant's.
  ///   - queues: that it may serve; nil is every one. An empty list is refused.
  ///   - expires: how long the token is good, in seconds: 1 s to 7 days.
  ///   - life: how long the worker's identity is good after each renewal, in seconds: 5 s to 7 days.
  /// - Returns: the login's name, and until when it is good.
  /// - Throws: SQLSTATE 42501, with the fix, where this database may make no logins.
  public func createJoinToken(
    tenant: String?, queues: [String]?, expires: Double, life: Double, verifier: String
  ) async throws -> (role: String, expiresAt: Date) {
    let row = try await one(
      .createJoinToken,
      [Parameter(tenant), Parameter(queues), Parameter(expires), Parameter(life), Parameter(verifier)])
    return (try row.get("role"), try row.get("expires_at"))
  }

  /// The tokens and the identities they made, as JSON texts; for operators and auditors.
  public func joinTokens() async throws -> [String] {
    try await all(.joinTokens).map { try $0.get("token") }
  }

  /// Takes back a token that nobody has used.
  /// - Throws: SQLSTATE CD404 for one that is unknown, 22023 for one that was used.
  public func withdrawJoinToken(_ role: String) async throws {
    try await all(.withdrawJoinToken, [Parameter(role)])
  }

  /// Uses up the token that this session logged in with.
  /// - Returns: the worker's login, and for how many seconds it is good.
  /// - Throws: SQLSTATE 42501 for a token that was used, withdrawn or has expired.
  public func enrol(name: String, verifier: String) async throws -> (role: String, seconds: Double) {
    let row = try await one(.enrol, [Parameter(name), Parameter(verifier)])
    return (try row.get("role"), try row.get("seconds"))
  }

  /// Gives the login of this session another password and a later end. Asked again with the same verifier, it does the same.
  /// - Returns: for how many seconds it is good.
  /// - Throws: SQLSTATE CD403 where it was revoked or has expired.
  public func renew(verifier: String) async throws -> Double {
    try await one(.renew, [Parameter(verifier)]).get("seconds")
  }

  /// Removes the logins of workers and tokens whose time has been over for a day, and names them. Harmless from any number of
  /// workers.
  @discardableResult
  public func reapLogins() async throws -> [String] {
    try await all(.reapLogins).map { try $0.get("role") }
  }
}
