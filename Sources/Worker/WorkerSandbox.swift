import Jobs
import Logging
import Sandbox
import Store

// What the worker does about its own sandbox: the terms that what is missing must be waived by, the canary, and a warden that
// is gone.

extension Worker {
  /// The terms of the policy in force. Asked for only where something is missing: where nothing is, there is nothing
  /// to waive.
  func termsInForce(_ findings: [Finding]) async throws -> PolicyTerms {
    guard findings.contains(where: { !$0.holds }) else { return PolicyTerms() }
    return try PolicyTerms(document: try await store.policyInForce().document)
  }

  func sendCanaries() async {
    var canary = Canary(
      interval: configuration.canaryInterval, waived: Set(waived), now: .now, spread: .random(in: 0...1))
    while true {
      try? await Task.sleep(until: canary.due, clock: .continuous)
      guard !Task.isCancelled else { return }
      let looked = await Canary.look { [sandbox] in sandbox.facts.missing + (try await SelfTest.probe(sandbox)) }
      // What fails while everything is being ended says nothing about the host.
      guard !Task.isCancelled, roster.mode != .leaving else { return }
      let verdict =
        switch looked {
        case .success(let findings): canary.verdict(findings)
        case .failure(let error): canary.verdict(failed: "\(error)")
        }
      if case .drain(let finding) = verdict { return stopServing(finding) }
      logger.debug("the canary found every control in force")
      canary.schedule(after: .now, spread: .random(in: 0...1))
    }
  }

  func stopServing(_ finding: Finding) {
    logger.critical("a control stopped holding; draining", metadata: ["reason": "\(finding.line)"])
    broken = finding
    let (store, id) = (store, id)
    Task { try? await store.reportDrained(worker: id, reason: finding.line) }
    drain()
  }

  /// A worker whose warden died can run nothing: it gives everything back and leaves.
  func watchSandbox() async {
    await sandbox.waitUntilClosed()
    guard roster.mode != .leaving, !roster.mayLeave else { return }
    logger.critical("the warden is gone; leaving")
    wardenIsGone = true
    leave()
  }
}
