import FoundationEssentials
import Postgres

extension Store {
  /// Whether an attempt holds its lease: started, neither cancelled nor frozen, its worker heard from within its lease, its deadline
  /// not passed. For members of `cordon_introspector`.
  /// - Parameter token: the fencing token of the lease.
  /// - Returns: the answer, and the time by the database's clock.
  public func attemptIsLive(job: JobID, attempt: Int, token: Int64) async throws -> (isLive: Bool, asOf: Date) {
    let row = try await one(.attemptIsLive, [Parameter(job.description), Parameter(attempt), Parameter(token)])
    return (try row.get("live"), try row.get("as_of"))
  }
}
