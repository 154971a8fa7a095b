/// The attempt that a credential is for.
public struct CredentialAttempt: Sendable, Equatable {
  public let job: String
  public let attempt: Int
  /// Of the lease: fresh on every claim, so no other attempt has it.
  public let token: Int64
  public let tenant: String
  public let queue: String
  /// When it must be over, by the clock that nobody sets. What is made for it does not live longer.
  public let deadline: ContinuousClock.Instant

  public init(
    job: String, attempt: Int, token: Int64, tenant: String, queue: String, deadline: ContinuousClock.Instant
  ) {
    self.job = job
    self.attempt = attempt
    self.token = token
    self.tenant = tenant
    self.queue = queue
    self.deadline = deadline
  }
}

/// Where a secret comes from. Asked again for every use, so that what was rotated is used from then on.
public protocol CredentialSource: Sendable {
  func fetch(for attempt: CredentialAttempt) async throws(CredentialError) -> Secret
  /// Takes back what was made for the attempt. Sources that make nothing have nothing to do.
  func end(_ attempt: CredentialAttempt) async throws(CredentialError)
}

extension CredentialSource {
  public func end(_ attempt: CredentialAttempt) async throws(CredentialError) {}
}
