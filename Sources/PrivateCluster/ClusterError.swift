/// Why a private cluster could not be started, stopped or used, on one line, with what to do about it.
public struct ClusterError: Error, Sendable, CustomStringConvertible {
  /// What was being done: `find`, `account`, `directory`, `initdb`, `start`, `stop`, `copy`, `promote`.
  public let stage: String
  public let message: String
  public let fix: String?

  public init(_ stage: String, _ message: String, fix: String? = nil) {
    self.stage = stage
    self.message = message
    self.fix = fix
  }

  public var description: String { "PostgreSQL \(stage): \(message)\(fix.map { "; \($0)" } ?? "")" }
}
