import Postgres

// How long what is over is kept. Nothing is dropped unless an operator has said so.
extension Store {
  /// What is kept and dropped together.
  public enum RetentionClass: String, Sendable, CaseIterable {
    /// Jobs with their attempts.
    case jobs
    case logs
  }

  /// - Parameter seconds: at least a day; nil keeps for ever.
  public func setRetention(_ kind: RetentionClass, seconds: Double?) async throws {
    try await all(.setRetention, [Parameter(kind.rawValue), Parameter(seconds)])
  }

  /// Past weeks as JSON texts: whether each is due to be dropped, and why it stays.
  public func retained() async throws -> [String] {
    try await all(.retained).map { try $0.get("week") }
  }

  /// Drops the partitions that are due and names them. Harmless from any number of workers.
  @discardableResult
  public func applyRetention() async throws -> [String] {
    try await all(.applyRetention).map { try $0.get("partition") }
  }
}
