import Credentials
import Logging
import Store

// Theory of operation: logins that attempts of workers which died have left behind
//
//   due     every `interval`, and sooner where a rescue has found attempts of a silent worker; any worker does it, for the servers
//           that its own credentials name, because the lease may have been rescued by one without them
//   end     the admin's session lists the logins of attempts; the queue's database says of each whether its attempt is held;
//           those of none are ended (`PostgresRoleSource`)
//
// It is a task of its own, because an admin's server is another one than the queue's: when it hangs, neither rescues nor anything else
// of the queue may wait for it. What hangs is waited for `patience` and left to end by its own deadlines; until it has, no other
// is begun, so that sessions do not pile up before a server that does not answer.

extension Worker {
  private static let interval = Duration.seconds(30)
  private static let patience = Duration.seconds(20)

  func paceLogins() async {
    while !Task.isCancelled {
      loginsToEnd.yield()
      try? await Task.sleep(for: Self.interval)
    }
  }

  func endLogins() async {
    guard let keeper = egressService.keeper else { return }
    for await _ in loginsDue {
      guard endingLogins == nil else {
        logger.warning("an admin's database does not answer; logins may be left behind")
        continue
      }
      let ending = Task { await endLogins(of: keeper) }
      endingLogins = ending
      if await outcome(of: ending, within: Self.patience) == nil, !Task.isCancelled {
        logger.warning(
          "ending logins takes long; the rest of the queue's work goes on", metadata: ["so far": "\(Self.patience)"])
      }
    }
  }

  private func endLogins(of keeper: CredentialKeeper) async {
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
    await settleLogins(of: keeper)
    endingLogins = nil
  }

  /// Logins that were taken down and of which no server has the role any more: their workers died between ending them and saying so.
  private func settleLogins(of keeper: CredentialKeeper) async {
    do {
      let left = try await store.loginsLeft(worker: id)
      let gone = await keeper.gone(left)
      if !gone.isEmpty { try await store.loginsEnded(worker: id, roles: gone) }
    } catch {
      if !Task.isCancelled { logger.warning("logins cannot be told to be gone", metadata: ["error": "\(error)"]) }
    }
  }
}

/// What a task came to, where it is over in time; the task goes on otherwise. A cancelled caller waits no longer.
func outcome<Value: Sendable>(of task: Task<Value, Never>, within limit: Duration) async -> Value? {
  let (values, value) = AsyncStream.makeStream(of: Value.self)
  Task {
    value.yield(await task.value)
    value.finish()
  }
  return await withTaskGroup(of: Value?.self) { group in
    group.addTask { await values.first { _ in true } }
    group.addTask {
      try? await Task.sleep(for: limit)
      return nil
    }
    defer { group.cancelAll() }
    return await group.next() ?? nil
  }
}
