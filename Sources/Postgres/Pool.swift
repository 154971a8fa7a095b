/// Connections to one database, opened on demand up to a maximum and shared by whoever asks.
///
/// A caller waits its turn; it leaves the line when its task is cancelled or its deadline passes. A connection
/// that comes back lost, inside a transaction or listening is closed, never lent again. Failed connects are
/// repeated with a jittered backoff for as long as somebody waits, unless repeating cannot help.
public final class Pool: Sendable {
  public let settings: ConnectionSettings
  /// Longest wait for a connection when a call gives no deadline.
  public let waitLimit: Duration
  private let core: PoolCore

  public init(_ settings: ConnectionSettings, maximum: Int, waitLimit: Duration = .seconds(30)) {
    self.settings = settings
    self.waitLimit = waitLimit
    core = PoolCore(settings, maximum: maximum)
  }

  /// Lends a connection to `body`.
  ///
  /// - Parameter wait: longest wait for the connection; nil takes `waitLimit`. When it passes, the error is the
  ///   last failed connect's where there was one, otherwise of kind `deadline`.
  public func withConnection<Value>(
    wait: Duration? = nil, isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> sending Value
  ) async throws -> sending Value {
    let deadline = ContinuousClock.now + (wait ?? waitLimit)
    var lease = try await core.acquire(until: deadline)
    while await !lease.connection.isUsable {
      await core.release(lease.id, reusable: false)
      lease = try await core.acquire(until: deadline)
    }
    do {
      let value = try await body(lease.connection)
      await core.release(lease.id, reusable: lease.connection.isReusable)
      return value
    } catch {
      await core.release(lease.id, reusable: lease.connection.isReusable)
      throw error
    }
  }

  /// Runs one statement on any connection.
  /// - Parameter deadline: longest time for waiting and running together.
  @discardableResult
  public func query(
    _ statement: Statement, _ parameters: [Parameter] = [], deadline: Duration? = nil
  ) async throws -> [Row] {
    let end = deadline.map { ContinuousClock.now + $0 }
    return try await withConnection(wait: deadline) { connection in
      try await connection.query(statement, parameters, deadline: end.map { max(.zero, $0 - .now) })
    }
  }

  /// Runs one transaction on any connection.
  /// - Parameter deadline: longest time for waiting and running together.
  public func transaction<Value: Sendable>(
    deadline: Duration? = nil, _ body: @Sendable (isolated Connection) throws -> Value
  ) async throws -> Value {
    let end = deadline.map { ContinuousClock.now + $0 }
    return try await withConnection(wait: deadline) { connection in
      try await connection.transaction(deadline: end.map { max(.zero, $0 - .now) }, body)
    }
  }

  /// Callers in line.
  var waiting: Int { get async { await core.waiting } }

  /// Closes idle connections now and lent ones when they come back; whoever waits gets an error. Returns once no connect
  /// is under way, or after `settings.cancelGrace`: where a process exits, what libpq uses is taken down, Kerberos among
  /// it, and a connect that goes on meanwhile would crash it.
  public func close() async {
    await core.close()
  }
}

/// Performs what `PoolState` decides.
actor PoolCore {
  struct Lease: Sendable {
    let id: PoolState.ConnectionID
    let connection: Connection
  }

  private struct Waiter {
    let continuation: CheckedContinuation<Lease, any Error>
    let timer: Task<Void, Never>
  }

  private let settings: ConnectionSettings
  private var state: PoolState
  private var connections: [PoolState.ConnectionID: Connection] = [:]
  private var waiters: [PoolState.WaiterID: Waiter] = [:]
  private var backoff = Backoff()
  private var lastFailure: PostgresError?
  private var nextIdentifier = 0
  /// Connects under way, those in their backoff included.
  private var connects: [Int: Task<Void, Never>] = [:]

  var waiting: Int { state.waiters.count }

  init(_ settings: ConnectionSettings, maximum: Int) {
    self.settings = settings
    state = PoolState(maximum: maximum)
  }

  func acquire(until deadline: ContinuousClock.Instant) async throws -> Lease {
    let waiter = identifier()
    return try await withTaskCancellationHandler {
      if Task.isCancelled { throw PostgresError(.cancelled, "cancelled before a connection was asked for") }
      return try await withCheckedThrowingContinuation { continuation in
        let timer = Task {
          try? await Task.sleep(until: deadline, clock: .continuous)
          if !Task.isCancelled { self.leave(waiter, self.expired()) }
        }
        waiters[waiter] = Waiter(continuation: continuation, timer: timer)
        perform(state.acquire(waiter))
      }
    } onCancel: {
      // Runs on this actor after the waiter is in line, since nothing above suspends before it is.
      Task { await self.leave(waiter, PostgresError(.cancelled, "cancelled while waiting for a connection")) }
    }
  }

  func release(_ id: PoolState.ConnectionID, reusable: Bool) async {
    perform(state.release(id, reusable: reusable))
  }

  func close() async {
    let idle = state.idle.compactMap { connections.removeValue(forKey: $0) }
    perform(state.close())
    for connect in connects.values { connect.cancel() }
    for connection in idle { await connection.close() }
    let end = ContinuousClock.now + settings.cancelGrace
    // A host's name that is being looked up cannot be cancelled. Slept in a task of its own: the caller's may be cancelled.
    while !connects.isEmpty, .now < end { await Task { try? await Task.sleep(for: .milliseconds(5)) }.value }
  }

  private func begin(_ work: @escaping @Sendable () async -> Void) {
    let number = identifier()
    connects[number] = Task {
      await work()
      self.connects[number] = nil
    }
  }

  private func perform(_ actions: [PoolState.Action]) {
    for action in actions {
      switch action {
      case .give(let id, to: let waiter):
        guard let connection = connections[id] else { preconditionFailure("the pool lends what it does not have") }
        finish(waiter, .success(Lease(id: id, connection: connection)))
      case .connect: begin { await self.connect() }
      case .backOff: begin { await self.backOff() }
      case .close(let id):
        guard let connection = connections.removeValue(forKey: id) else { continue }
        Task { await connection.close() }
      case .fail(let waiter, .closed): finish(waiter, .failure(PostgresError(.closed, "the pool is closed")))
      case .fail(let waiter, .cannotConnect): finish(waiter, .failure(expired()))
      }
    }
  }

  private func connect() async {
    do {
      let connection = try await Connection.connect(settings)
      let id = identifier()
      connections[id] = connection
      backoff.reset()
      lastFailure = nil
      perform(state.connected(id))
    } catch {
      lastFailure = error
      perform(state.connectFailed(transient: error.isTransientConnectFailure))
    }
  }

  private func backOff() async {
    try? await Task.sleep(for: backoff.next())
    perform(state.backoffElapsed())
  }

  private func leave(_ waiter: PoolState.WaiterID, _ error: PostgresError) {
    if state.leave(waiter) { finish(waiter, .failure(error)) }
  }

  private func finish(_ id: PoolState.WaiterID, _ result: Result<Lease, any Error>) {
    guard let waiter = waiters.removeValue(forKey: id) else { return }
    waiter.timer.cancel()
    waiter.continuation.resume(with: result)
  }

  private func expired() -> PostgresError {
    lastFailure ?? PostgresError(.deadline, "no connection became free in time")
  }

  private func identifier() -> Int {
    nextIdentifier += 1
    return nextIdentifier
  }
}
