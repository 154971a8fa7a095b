import Jobs
import Logging
import Postgres
import Sandbox
import Store

// How a worker is known to the database: from its first word to its last, and what it does where the database knows it no more.

extension Worker {
  func register() async throws {
    id = try await store.registerWorker(
      name: configuration.name, host: configuration.host, build: configuration.build.description,
      queues: configuration.queues, slots: configuration.slots, leaseSeconds: configuration.leaseSeconds,
      missing: waived, offers: sandbox.facts.diskOutputs.holds ? [PolicyTerms.diskOffer] : [])
    recorder = Recorder(store: store, worker: id)
    lastHeartbeat = .now
  }

  /// Unregisters; a database that does not answer learns it from the silence.
  func retire() async {
    let (store, id, reason) = (store, id, broken?.line)
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        // Again, because the first word may not have arrived; the database keeps one.
        if let reason { try? await store.reportDrained(worker: id, reason: reason) }
        try? await store.retireWorker(id)
      }
      group.addTask { try? await Task.sleep(for: Self.leavePatience) }
      await group.next()
      group.cancelAll()
    }
  }

  /// The database has forgotten this worker (it was silent for a day, or somebody retired it): what it held is
  /// others', and it begins anew under another id.
  func registerAgain() async {
    logger.warning("the database knows this worker no more; registering again", metadata: ["worker": "\(id)"])
    stop(roster.abandonAll())
    do {
      try await register()
    } catch let error as PostgresError where error.sqlState == Self.revokedWorker {
      leaveRevoked(.revoked(error.message, fix: error.hint))
    } catch {
      logger.warning("registering failed", metadata: ["error": "\(error)"])
    }
  }

  /// The login of this worker is over for good: it ends what runs, which is others' by now, and leaves.
  public func identityIsOver(_ error: WorkerError) { leaveRevoked(error) }

  func leaveRevoked(_ error: WorkerError) {
    guard revoked == nil else { return }
    logger.error("ending what runs", metadata: ["error": "\(error)"])
    revoked = error
    stop(roster.abandonAll())
    leave()
  }
}
