import FaultHistory
import Glibc

extension Fleet {
  /// Does to the fleet what a fault says, and returns when its part is over and undone. A fault that cannot be done now,
  /// because another one is (no session gets through to a server that is down), has been done by that one. Nothing
  /// stands in the way of packets being lost, so that they are not is thrown.
  func inject(_ fault: Fault) async throws {
    let worker = workers[fault.worker]
    switch fault.kind {
    case .killWorker: await worker.signal(SIGKILL)
    case .pauseWorker: await pause(worker, for: fault.length)
    case .killWarden: _ = await worker.signalWarden(SIGKILL)
    case .pauseWarden: await pauseWarden(of: worker, for: fault.length)
    case .crashDatabase: await crashDatabase(for: fault.length)
    case .terminateBackends: await terminateBackends()
    case .lockLeases: await lockLeases(for: fault.length)
    case .exhaustConnections: await exhaustConnections(for: fault.length)
    case .loseAnswers: await loseAnswers(for: fault.length)
    case .partition: try await partition(fault.worker, for: fault.length, cut: fault.variant)
    case .losePackets: try await losePackets(fault.worker, for: fault.length, lost: fault.lost)
    case .skewClock: await worker.restart(with: Clock.environment(ahead: fault.variant, products: products))
    case .fillDisk: await fillDisk(for: fault.length)
    case .promoteReplica: try await promoteReplica(silently: fault.variant)
    }
  }
}
