import Jobs
import Logging
import Postgres
import Sandbox
import Store

// How a worker keeps what it holds, and loses it: heartbeats, and the fence where they are not answered.

extension Worker {
  func paceHeartbeats() async {
    while !Task.isCancelled {
      beat.yield()
      try? await Task.sleep(for: configuration.heartbeatInterval)
    }
  }

  func sendHeartbeats() async {
    for await _ in heartbeatsDue {
      let asked = ContinuousClock.now
      do {
        let held = roster.held
        let verdicts = try await store.heartbeat(worker: id, held: held)
        lastHeartbeat = max(lastHeartbeat, asked)
        stop(roster.apply(verdicts))
        for (token, isFrozen) in roster.freeze(verdicts, asked: held.map(\.token)) {
          logger.notice(isFrozen ? "frozen" : "goes on", metadata: ["token": "\(token)"])
          await cells[token]?.freeze(isFrozen)
        }
      } catch let error as PostgresError where error.sqlState == Self.unknownWorker {
        await registerAgain()
      } catch let error as PostgresError where error.sqlState == Self.revokedWorker {
        leaveRevoked(error)
      } catch {
        if !Task.isCancelled { logger.warning("heartbeat failed", metadata: ["error": "\(error)"]) }
      }
    }
  }

  func askForVerdicts() { beat.yield() }

  func fence() async {
    let lease = Duration.seconds(configuration.leaseSeconds)
    while !Task.isCancelled {
      try? await Task.sleep(until: lastHeartbeat + lease, clock: .continuous)
      guard !Task.isCancelled, .now - lastHeartbeat >= lease else { continue }
      let stops = roster.abandonAll()
      if !stops.isEmpty {
        logger.error(
          "no heartbeat was acknowledged for a whole lease; ending what runs", metadata: ["count": "\(stops.count)"])
      }
      stop(stops)
      try? await Task.sleep(for: configuration.heartbeatInterval)
    }
  }
}
