/// What a login for one attempt may do, as the configuration says it.
public struct PostgresRoleTerms: Sendable, Equatable {
  /// The file with the connection string of a role that may make others: a superuser, or one with CREATEROLE that may
  /// grant the groups.
  public let adminFile: String
  /// NOLOGIN roles, of which the login becomes a member. What it may do is what they may.
  public let groups: [String]
  public let connectionLimit: Int
  /// Of the roles' names. Whatever begins so is taken for a login of an attempt, and ended when none is alive.
  public let prefix: String

  static let usualConnectionLimit = 4
  static let usualPrefix = "cordon_job_"

  public init(adminFile: String, groups: [String], connectionLimit: Int, prefix: String) {
    self.adminFile = adminFile
    self.groups = groups
    self.connectionLimit = connectionLimit
    self.prefix = prefix
  }
}

/// The name of a login for one attempt: `cordon_job_4711_3f2a90bc`, with the lease's fencing token and a random part,
/// since one attempt may have logins by several definitions on one server.
public struct PostgresRoleName: Sendable, Hashable, CustomStringConvertible {
  public let token: Int64
  public let description: String

  init(prefix: String, token: Int64) {
    self.token = token
    let random = UInt32.random(in: .min ... .max)
    let bytes = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: random >> $0) }
    description = "\(prefix)\(token)_\(Hexadecimal.lower(bytes))"
  }

  /// Nil for a name that is not made so: a role of somebody else.
  init?(_ text: String, prefix: String) {
    guard text.hasPrefix(prefix) else { return nil }
    let parts = text.dropFirst(prefix.count).split(separator: "_", omittingEmptySubsequences: false)
    guard parts.count == 2, let token = Int64(parts[0]), String(token) == parts[0], parts[1].utf8.count == 8,
      parts[1].utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
    else { return nil }
    self.token = token
    description = text
  }

  static func isPrefix(_ text: String) -> Bool {
    (1...24).contains(text.utf8.count) && text.hasSuffix("_") && !text.hasPrefix("pg_")
      && text.utf8.first.map { (97...122).contains($0) } == true
      && text.utf8.allSatisfy { (97...122).contains($0) || $0 == 95 }
  }
}
