import FoundationEssentials

/// From when until when a token is good, in whole seconds since 1970 (RFC 7519, NumericDate).
///
/// Both ends are by the clock of the database, which also says when the attempt's lease is over. Who verifies with that clock needs no
/// leeway, and the introspection endpoint gives none; relying parties with a clock of their own add what they trust it.
public struct TokenLifetime: Equatable, Sendable {
  /// Seconds; a token that was taken is of no use after that even where nobody asks whether its attempt is still alive.
  public static let longest = 300

  public let issuedAt: Int64
  public let expiresAt: Int64

  /// As long as asked for, at most `longest`, and never beyond the deadline.
  /// - Parameters:
  ///   - now: the database's clock.
  ///   - deadline: of the attempt's lease, by the same clock.
  public init(now: Date, deadline: Date, seconds: Int = longest) throws(TokenProblem) {
    // Downwards: a moment too early is safe at both ends.
    issuedAt = Int64(now.timeIntervalSince1970.rounded(.down))
    let end = min(issuedAt + Int64(min(seconds, Self.longest)), Int64(deadline.timeIntervalSince1970.rounded(.down)))
    guard end > issuedAt else { throw .leaseOver }
    expiresAt = end
  }
}
