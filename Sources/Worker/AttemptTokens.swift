import Credentials
import FoundationEssentials
import Identity
import Jobs
import Store
import Synchronization

/// Makes tokens that say who an attempt is, or for whom it acts, one for each use.
///
/// The database is asked each time whether the attempt is still this worker's and runs, for whom it may act by now, what time it is, and
/// whether policies name whom the token is for: there is none for an attempt that is over, whatever this host's clock says, and none for
/// an audience that its policy does not name, whatever this worker's file says.
struct AttemptTokens: Sendable {
  let issuer: TokenIssuer
  let store: Store
  let worker: Int64
  let claim: Claim
  /// Of the policy that the attempt runs under, as this worker has read it by its digest.
  let audiences: Set<String>
  private let kept = KeptDelegations()

  init(issuer: TokenIssuer, store: Store, worker: Int64, claim: Claim, audiences: Set<String>) {
    (self.issuer, self.store, self.worker, self.claim, self.audiences) = (issuer, store, worker, claim, audiences)
  }

  /// Whether a token for this audience may be made, or one that was made may still be used.
  /// - Throws: `CredentialError`, of kind `policy` where it is not named.
  func judge(_ audience: String) async throws(CredentialError) -> Store.HeldAttempt {
    let held: Store.HeldAttempt?
    do {
      held = try await store.attemptIdentity(worker: worker, job: claim.job, token: claim.token, audience: audience)
    } catch {
      throw CredentialError(.unavailable, "the database did not say whether a token may be made: \(error)")
    }
    guard let held else {
      throw CredentialError(.forbidden, "the attempt does not run any more, or may not act for whom it does")
    }
    guard audiences.contains(audience), held.namesAudience else {
      throw CredentialError(.policy, "policy: audiences: does not name '\(audience)'")
    }
    return held
  }

  func make(_ terms: TokenTerms) async throws(CredentialError) -> Secret {
    let held = try await judge(terms.audience)
    do {
      let identity = AttemptIdentity(
        job: claim.job.description, attempt: claim.attempt, token: claim.token, queue: claim.queue,
        tenant: claim.tenant, submitter: held.submitter, policy: held.policy, code: held.code.map { [$0] } ?? [])
      let lifetime = try TokenLifetime(now: held.now, deadline: held.deadline)
      func secret(_ token: String) throws -> Secret {
        try Secret(Array(token.utf8), version: "\(held.now.timeIntervalSince1970)")
      }
      guard terms.isDelegation else {
        return try secret(try await issuer.workloadToken(for: identity, audience: terms.audience, lifetime: lifetime))
      }
      // Never a plain one in its place: it would say that the job acts for itself.
      guard let given = held.delegated else { throw CredentialError(.forbidden, AttemptCredentials.actsForNobody) }
      if let secret = kept.secret(terms.audience, given, at: held.now) { return secret }
      let delegation = try Delegation(
        person: given.person, to: held.submitter, scopes: given.scopes, expiresAt: given.until)
      let made = try secret(
        try await issuer.delegationToken(
          delegation, scopes: given.scopes, for: identity, audience: terms.audience, lifetime: lifetime))
      let end = min(given.until, Date(timeIntervalSince1970: Double(lifetime.expiresAt)))
      kept.keep(made, terms.audience, given, until: min(end, held.now + KeptDelegations.reuse))
      return made
    } catch let error as CredentialError {
      throw error
    } catch {
      throw CredentialError(.unavailable, "no token could be made: \(error)")
    }
  }
}

extension AttemptRun {
  /// Nil where this worker has no issuer's keys.
  func tokens(for audiences: Set<String>) -> AttemptCredentials.TokenMaker? {
    egress.issuer.map {
      let tokens = AttemptTokens(issuer: $0, store: store, worker: worker, claim: claim, audiences: audiences)
      return AttemptCredentials.TokenMaker(
        judge: { audience throws(CredentialError) in _ = try await tokens.judge(audience) }, make: tokens.make)
    }
  }
}

/// Delegation tokens of one attempt, each good as long as what is delegated stays what it was. As many as there are uses could not all
/// be looked for in what the job prints.
private final class KeptDelegations: Sendable {
  /// As long as a plain token serves.
  static let reuse = TimeInterval(AttemptCredentials.tokenReuse.components.seconds)

  private let tokens = Mutex<[String: (secret: Secret, given: Store.HeldAttempt.Delegated, until: Date)]>([:])

  /// - Parameter now: the database's clock.
  func secret(_ audience: String, _ given: Store.HeldAttempt.Delegated, at now: Date) -> Secret? {
    tokens.withLock { $0[audience] }.flatMap { $0.given == given && now < $0.until ? $0.secret : nil }
  }

  func keep(_ secret: Secret, _ audience: String, _ given: Store.HeldAttempt.Delegated, until: Date) {
    tokens.withLock { $0[audience] = (secret, given, until) }
  }
}
