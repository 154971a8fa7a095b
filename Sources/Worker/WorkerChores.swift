import Logging
import Store

// What a worker does for the queue besides its own jobs: any worker does it, and the database lets one of them have each turn.

extension Worker {
  /// Partitions are weeks, and logins are kept for a day; a worker that asks sooner would only be told again.
  private static let retentionInterval = Duration.seconds(600)

  func rescue() async {
    // Half a lease, with jitter, so that a fleet does not ask at the same moment.
    let pause = min(configuration.leaseSeconds / 2, 5)
    var retentionDue = ContinuousClock.now
    while !Task.isCancelled {
      if retentionDue <= .now {
        retentionDue = .now + Self.retentionInterval
        await removeWhatIsOver()
      }
      do {
        let rescued = try await store.rescue(limit: 100)
        if rescued > 0 {
          logger.notice("rescued attempts of silent workers", metadata: ["count": "\(rescued)"])
          loginsToEnd.yield()
        }
        let held = roster.entries.values.map { (job: $0.claim.job, attempt: $0.claim.attempt) }
        try await publications.settleOld(store: store, worker: id, held: held, logger: logger)
      } catch {
        if !Task.isCancelled { logger.warning("rescue failed", metadata: ["error": "\(error)"]) }
      }
      try? await Task.sleep(for: .seconds(pause * Double.random(in: 0.75...1.25)))
    }
  }

  /// None of it keeps the rest, nor rescue, from being done.
  private func removeWhatIsOver() async {
    do {
      let dropped = try await store.applyRetention()
      if !dropped.isEmpty { logger.notice("dropped what is kept no longer", metadata: ["what": "\(dropped)"]) }
    } catch {
      if !Task.isCancelled { logger.warning("retention failed", metadata: ["error": "\(error)"]) }
    }
    do {
      let removed = try await store.reapLogins()
      if !removed.isEmpty { logger.notice("removed logins that are over", metadata: ["roles": "\(removed)"]) }
    } catch {
      if !Task.isCancelled { logger.warning("removing logins failed", metadata: ["error": "\(error)"]) }
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
