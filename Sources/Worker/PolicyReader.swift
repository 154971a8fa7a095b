import Jobs
import Sandbox
import Store

/// Policies as claims bring them, checked against their digest and read once each. A worker meets few of them, and jobs without
/// number.
actor PolicyReader {
  private var known: [Digest: Result<PolicyTerms, Refusal>] = [:]

  /// More than were ever in force at once; a worker that met as many begins anew.
  private static let most = 100

  /// The terms of the claim's policy.
  /// - Throws: `Refusal` when the document is not the one that the digest names, or cannot be read.
  func terms(of claim: Claim) throws(Refusal) -> PolicyTerms {
    if let terms = known[claim.policy] { return try terms.get() }
    // Not kept: the next claim may bring the right one.
    guard sha256(Array(claim.policyDocument.utf8)) == claim.policy else {
      throw Refusal("policy: the document does not have the digest \(claim.policy)")
    }
    let terms = Result { () throws(Refusal) in
      do { return try PolicyTerms(document: claim.policyDocument) } catch {
        throw Refusal("\(error); this worker may be too old")
      }
    }
    if known.count >= Self.most { known = [:] }
    known[claim.policy] = terms
    return try terms.get()
  }
}
