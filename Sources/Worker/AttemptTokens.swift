import Credentials
import FoundationEssentials
import Identity
import Jobs
import Store

extension AttemptRun {
  /// Makes tokens that say who this attempt is, one for each use; nil where this worker has no issuer's keys.
  ///
  /// The database is asked each time whether the attempt is still this worker's and runs, and what time it is: there is no token
  /// for one that is over, whatever this host's clock says.
  var tokens: (@Sendable (String) async throws(CredentialError) -> Secret)? {
    guard let issuer = egress.issuer else { return nil }
    return { [store, worker, claim] audience throws(CredentialError) in
      do {
        guard let held = try await store.attemptIdentity(worker: worker, job: claim.job, token: claim.token) else {
          throw CredentialError(.forbidden, "the attempt does not run any more")
        }
        let identity = AttemptIdentity(
          job: claim.job.description, attempt: claim.attempt, token: claim.token, queue: claim.queue,
          tenant: claim.tenant,
          submitter: held.submitter, policy: held.policy, code: held.code.map { [$0] } ?? [])
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
}
