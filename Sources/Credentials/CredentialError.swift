/// Why a credential cannot be had or used: one line that names the thing and the fix, and never holds a secret, what a
/// source answered, or a token it was asked with.
public struct CredentialError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: String, Sendable, Equatable {
    /// The definition cannot be used as it is written.
    case definition
    /// The attempt's tenant or queue may not use it, or there is none of this name.
    case forbidden
    /// The attempt's policy does not name what it would be for.
    case policy
    /// Where it comes from does not give it now; another try may help.
    case unavailable
    /// Where it comes from refuses; another try does not help.
    case refused
    /// What came is no secret that can be used so.
    case unusable
    /// A login that should be over may not be. Somebody must look.
    case notEnded
  }

  public let kind: Kind
  public let reason: String

  public init(_ kind: Kind, _ reason: String) {
    self.kind = kind
    self.reason = reason
  }

  /// The same of the thing `name`.
  func named(_ name: String) -> CredentialError { CredentialError(kind, "\(name): \(reason)") }

  public var description: String { reason }
}
