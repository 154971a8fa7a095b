import Credentials
import FoundationEssentials
import Identity
import Jobs
import Store

/// Makes tokens that say who an attempt is, one for each use.
///
/// The database is asked each time whether the attempt is still this worker's and runs, what time it is, and whether policies name
/// whom the token is for: there is none for an attempt that is over, whatever this host's clock says, and none for an audience that
/// its policy does not name, whatever this worker's file says.
struct AttemptTokens: Sendable {
  let issuer: TokenIssuer
  let store: Store
  let worker: Int64
  let claim: Claim
  /// Of the policy that the attempt runs under, as this worker has read it by its digest.
  let audiences: Set<String>

  /// Whether a token for this audience may be made, or one that was made may still be used.
  /// - Throws: `CredentialError`, of kind `policy` where it is not named.
  @discardableResult
  func judge(_ audience: String) async throws(CredentialError) -> Store.HeldAttempt {
    let held: Store.HeldAttempt?
    do {
      held = try await store.attemptIdentity(worker: worker, job: claim.job, token: claim.token, audience: audience)
    } catch {
      throw CredentialError(.unavailable, "the database did not say whether a token may be made: \(error)")
    }
    guard let held else { throw CredentialError(.forbidden, "the attempt does not run any more") }
    guard audiences.contains(audience), held.namesAudience else {
      throw CredentialError(.policy, "policy: audiences: does not name '\(audience)'")
    }
    return held
  }

  func make(_ audience: String) async throws(CredentialError) -> Secret {
    let held = try await judge(audience)
    let identity = AttemptIdentity(
      job: claim.job.description, attempt: claim.attempt, token: claim.token, queue: claim.queue, tenant: claim.tenant,
      submitter: held.submitter, policy: held.policy, code: held.code.map { [$0] } ?? [])
    do {
      let token = try await issuer.workloadToken(
        for: identity, audience: audience, lifetime: TokenLifetime(now: held.now, deadline: held.deadline))
      return try Secret(Array(token.utf8), version: "\(held.now.timeIntervalSince1970)")
    } catch let error as CredentialError {
      throw error
    } catch {
      throw CredentialError(.unavailable, "no token could be made: \(error)")
    }
  }
}

extension AttemptRun {
  /// Nil where this worker has no issuer's keys.
  func tokens(for audiences: Set<String>) -> AttemptTokens? {
    egress.issuer.map {
      AttemptTokens(issuer: $0, store: store, worker: worker, claim: claim, audiences: audiences)
    }
  }
}
