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
          // For good: what the other side has seen of a connection cannot be taken back.
          if isFrozen { egress[token]?.cut(Self.frozen) }
          await cells[token]?.freeze(isFrozen)
        }
        try await judgeEgress()
      } catch let error as PostgresError where error.sqlState == Self.unknownWorker {
        await registerAgain()
      } catch let error as PostgresError where error.sqlState == Self.revokedWorker {
        leaveRevoked(.revoked(error.message, fix: error.hint))
      } catch let error as PostgresError where Self.isBarredLogin(error) {
        leaveRevoked(.barred(error.message, fix: error.hint))
      } catch {
        if !Task.isCancelled { logger.warning("heartbeat failed", metadata: ["error": "\(error)"]) }
      }
    }
  }

  /// What policies give less by now is cut, and what principals have sent is counted, with each heartbeat: every second.
  private func judgeEgress() async throws {
    guard !egress.isEmpty else { return }
    reportEgress()
    let open = roster.held.filter { egress[$0.token] != nil }
    for token in try await store.egressFallen(worker: id, held: open) {
      egress[token]?.cut("the policy grants less by now")
    }
  }

  /// Beside the heartbeats: to count may wait for what others have locked, and neither a heartbeat nor a cut waits with it. What
  /// is not counted yet is said again with the next.
  private func reportEgress() {
    guard reportingEgress == nil else { return }
    let id = id
    reportingEgress = Task {
      do {
        try await budgets.report(worker: id)
      } catch {
        logger.warning("what was sent is not reported yet", metadata: ["error": "\(error)"])
      }
      reportingEgress = nil
    }
  }

  func askForVerdicts() { beat.yield() }

  static let frozen = "frozen by a revocation"
  static let silence = "the database has not been heard, so nobody could have revoked it"
  /// A revocation that cannot reach this worker must still take effect within ten seconds where it matters most.
  private static let longestSilence = Duration.seconds(8)

  var isSilent: Bool { .now - lastHeartbeat >= Self.longestSilence }

  /// Credentials are worth more than an attempt, and what revokes them speaks through the database alone.
  func withholdInSilence() async {
    while !Task.isCancelled {
      try? await Task.sleep(
        until: max(lastHeartbeat + Self.longestSilence, .now + .milliseconds(250)), clock: .continuous)
      guard !Task.isCancelled, isSilent else { continue }
      for attempt in egress.values { attempt.withhold(Self.silence) }
    }
  }

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
