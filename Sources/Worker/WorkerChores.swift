import Credentials
import Logging
import Store

// What a worker does for the queue besides its own jobs: any worker does it, and the database lets one of them have each turn.

extension Worker {
  /// Partitions are weeks; a worker that asks sooner would only be told again.
  private static let retentionInterval = Duration.seconds(600)

  /// What a dead worker's attempt could still log in with; its lease may have been rescued by a worker without these credentials.
  private static let loginsInterval = Duration.seconds(30)

  func rescue() async {
    // Half a lease, with jitter, so that a fleet does not ask at the same moment.
    let pause = min(configuration.leaseSeconds / 2, 5)
    var retentionDue = ContinuousClock.now
    var loginsDue = ContinuousClock.now
    while !Task.isCancelled {
      do {
        if retentionDue <= .now {
          let dropped = try await store.applyRetention()
          if !dropped.isEmpty { logger.notice("dropped what is kept no longer", metadata: ["what": "\(dropped)"]) }
          retentionDue = .now + Self.retentionInterval
        }
        let rescued = try await store.rescue(limit: 100)
        if rescued > 0 { logger.notice("rescued attempts of silent workers", metadata: ["count": "\(rescued)"]) }
        if rescued > 0 || loginsDue <= .now {
          await endLogins()
          loginsDue = .now + Self.loginsInterval
        }
        let held = roster.entries.values.map { (job: $0.claim.job, attempt: $0.claim.attempt) }
        try await publications.settleOld(store: store, worker: id, held: held, logger: logger)
      } catch {
        if !Task.isCancelled { logger.warning("rescue failed", metadata: ["error": "\(error)"]) }
      }
      try? await Task.sleep(for: .seconds(pause * Double.random(in: 0.75...1.25)))
    }
  }

  /// Logins that attempts of workers which died have left behind, of this worker's credentials.
  private func endLogins() async {
    guard let keeper = egressService.keeper else { return }
    let (store, id) = (store, id)
    for ending in await keeper.reap(isLive: { try await store.isHeld(token: $0, worker: id) }) {
      switch ending.outcome {
      case .removed: logger.notice("a login that was left behind is ended", metadata: ["role": "\(ending.role)"])
      case .disabled(let why):
        logger.warning("a login is barred and not removed", metadata: ["role": "\(ending.role)", "why": "\(why)"])
      case .failed(let why):
        logger.critical("a login may still be in use", metadata: ["role": "\(ending.role)", "why": "\(why)"])
      }
    }
  }

  /// How long after a revocation a heartbeat is sent every second.
  private static let watchfulness = Duration.seconds(5)

  /// A notification that is lost leaves no more than this second: the kill switch does not rest on LISTEN.
  func watchRevocations() async {
    var known: Int64?
    // What was locked when it was revoked is found by the heartbeats after the one that comes first.
    var asksUntil = ContinuousClock.now
    while !Task.isCancelled {
      do {
        let epoch = try await store.revocationEpoch()
        if known != epoch { asksUntil = .now + Self.watchfulness }
        if .now < asksUntil { askForVerdicts() }
        known = epoch
      } catch {
        if !Task.isCancelled { logger.warning("asking for revocations failed", metadata: ["error": "\(error)"]) }
      }
      try? await Task.sleep(for: .seconds(1))
    }
  }

  func fireSchedules() async {
    let firing = ScheduleFiring(store: store, logger: logger)
    while !Task.isCancelled {
      var pause = ScheduleFiring.longestPause
      do {
        pause = try await firing.fireDue()
      } catch {
        if !Task.isCancelled { logger.warning("looking at schedules failed", metadata: ["error": "\(error)"]) }
      }
      // With jitter, so that a fleet does not ask at the same moment.
      try? await Task.sleep(for: pause + .milliseconds(Int64.random(in: 0...100)))
    }
  }
}
