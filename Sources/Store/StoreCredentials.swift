import Jobs
import Postgres

extension Store {
  /// How a credential is used.
  public enum CredentialKind: String, Sendable {
    /// Put into requests.
    case request
    /// A token of the attempt's own, put into requests.
    case token
    /// A login to a database.
    case login
  }

  /// Has taken down that an attempt is about to use a credential.
  /// - Parameter place: which server a login is on; nil for everything else.
  /// - Returns: false where this worker does not hold the attempt, or it has to stand still: then it must not be used.
  public func giveCredential(
    worker: Int64, job: JobID, token: Int64, credential: String, kind: CredentialKind, version: String,
    place: String? = nil
  ) async throws -> Bool {
    let row = try await one(
      .giveCredential,
      [
        Parameter(worker), Parameter(job.description), Parameter(token), Parameter(credential),
        Parameter(kind.rawValue),
        Parameter(version), Parameter(place),
      ])
    return try row.get("given")
  }

  /// Logins that are gone from their servers.
  /// - Parameter roles: names; of no matter which attempts.
  public func loginsEnded(worker: Int64, roles: [String]) async throws {
    _ = try await all(.loginsEnded, [Parameter(worker), Parameter(roles)])
  }

  /// Logins whose attempt is over and that nobody has said to be gone, and the servers that they are on; a thousand at most.
  public func loginsLeft(worker: Int64) async throws -> [(credential: String, role: String, place: String?)] {
    try await all(.loginsLeft, [Parameter(worker)]).map {
      (try $0.get("credential"), try $0.get("role_name"), try $0.get("place"))
    }
  }

  /// What the attempts of a job were given, as JSON texts.
  public func credentials(_ job: JobID) async throws -> [String] {
    try await all(.credentials, [Parameter(job.description)]).map { try $0.get("given") }
  }

  /// What can be used at this moment, and logins that are left, as JSON texts.
  public func liveCredentials(limit: Int = 1_000) async throws -> [String] {
    try await all(.liveCredentials, [Parameter(limit)]).map { try $0.get("given") }
  }
}
