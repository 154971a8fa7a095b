import FoundationEssentials
import Postgres

extension Store {
  /// Whether an attempt holds its lease: started, neither cancelled nor frozen, its worker heard from within its lease, its deadline
  /// not passed, and the person that it acts for lets it still. For members of `cordon_introspector`.
  /// - Parameters:
  ///   - token: the fencing token of the lease.
  ///   - scopes: all of these must be delegated to it; empty asks for none.
  /// - Returns: the answer, and the time by the database's clock.
  public func attemptIsLive(
    job: JobID, attempt: Int, token: Int64, scopes: Set<String> = []
  ) async throws -> (isLive: Bool, asOf: Date) {
    let row = try await one(
      .attemptIsLive, [Parameter(job.description), Parameter(attempt), Parameter(token), Parameter(scopes.sorted())])
    return (try row.get("live"), try row.get("as_of"))
  }
}
