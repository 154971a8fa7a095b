import Postgres

// Queues and the limits on what runs at once; for operators. Every limit is counted in the leases at each claim.
extension Store {
  /// Adds a queue unless it is there.
  public func addQueue(name: String) async throws {
    try await all(.addQueue, [Parameter(name)])
  }

  /// The queues with what waits and runs in each, as JSON texts; for auditors, too.
  public func queues() async throws -> [String] {
    try await all(.queues).map { try $0.get("queue") }
  }

  /// What is done with a queue.
  public enum QueueState: String, Sendable, CaseIterable {
    case open
    /// Nothing is claimed; what runs goes on.
    case paused
    /// Nothing is taken in (SQLSTATE CD503); what waits is still run.
    case draining
  }

  public func setQueue(_ name: String, _ state: QueueState) async throws {
    try await all(.setQueue, [Parameter(name), Parameter(state.rawValue)])
  }

  /// - Parameters:
  ///   - maxRunning: nil is no limit, 0 lets none start.
  ///   - ageing: seconds of waiting that weigh as much as one step of priority, 0 to 30 days; nil leaves it as it is.
  public func limitQueue(_ name: String, maxRunning: Int?, ageing: Double? = nil) async throws {
    try await all(.limitQueue, [Parameter(name), Parameter(maxRunning), Parameter(ageing)])
  }

  /// - Parameter weight: 1 to 100; the tenant's share beside others who wait in the same queue.
  public func limitTenant(_ name: String, maxRunning: Int?, weight: Int = 1) async throws {
    try await all(.limitTenant, [Parameter(name), Parameter(maxRunning), Parameter(weight)])
  }

  /// - Parameters:
  ///   - lane: nil is the tenant's own.
  ///   - perSecond: how many jobs may start a second on average; nil is no limit.
  ///   - burst: how many at once after a pause; nil is one second's.
  public func limitLane(
    queue: String, tenant: String, lane: String?, maxRunning: Int?, perSecond: Double? = nil, burst: Double? = nil
  ) async throws {
    try await all(
      .limitLane,
      [
        Parameter(queue), Parameter(tenant), Parameter(lane), Parameter(maxRunning), Parameter(perSecond),
        Parameter(burst),
      ])
  }
}
