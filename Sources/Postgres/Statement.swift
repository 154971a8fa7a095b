/// A statement with a name of its own. Every connection prepares it once, when it first runs it; errors and
/// measurements carry the name.
public struct Statement: Sendable, Hashable {
  public let name: String
  public let sql: String

  public init(name: String, sql: String) {
    self.name = name
    self.sql = sql
  }
}
