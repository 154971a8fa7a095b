import FoundationEssentials
import Postgres

// Who may act, until when, and how much. A budget that is used up refuses with SQLSTATE CD429.
extension Store {
  /// What a principal is; it stands in its row and in the audit trail, and changes nothing of what it may.
  public enum PrincipalKind: String, Sendable, CaseIterable {
    case person, service, agent
  }

  /// Replaces what bounds a principal; operators only. Nil is no bound.
  /// - Parameters:
  ///   - kind: nil keeps it.
  ///   - jobsPerHour: jobs put in within any hour.
  ///   - cpuSecondsPerDay: processor time of attempts that ended within any day. Beyond it nothing is accepted, and what
  ///     waits is put off.
  ///   - egressBytesPerDay: bytes that its jobs send within any day. Beyond it jobs with grants are not accepted, those that wait
  ///     are put off, and what runs sends nothing more.
  /// - Throws: SQLSTATE CD404 for a role that is no principal.
  public func limitPrincipal(
    _ role: String, kind: PrincipalKind?, expiresAt: Date?, jobsPerHour: Int?, cpuSecondsPerDay: Double?,
    egressBytesPerDay: Int64? = nil
  ) async throws {
    try await all(
      .limitPrincipal,
      [
        Parameter(role), Parameter(kind?.rawValue), Parameter(expiresAt), Parameter(jobsPerHour),
        Parameter(cpuSecondsPerDay), Parameter(egressBytesPerDay),
      ])
  }

  /// The principals with what they have used, as JSON texts; for operators and auditors.
  public func principals() async throws -> [String] {
    try await all(.principals).map { try $0.get("principal") }
  }
}
