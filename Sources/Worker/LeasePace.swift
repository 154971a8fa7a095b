/// How a worker of a lease divides its time: a heartbeat whose answer never comes, because its packets are lost or its
/// connection is dead, is given up so early that another one is still in time.
public struct LeasePace: Sendable {
  /// Between two heartbeats.
  public let heartbeatInterval: Duration
  /// How long anything of the database's is waited for; nothing a worker sends takes longer in a healthy one.
  public let patience: Duration
  /// Of the patience with a statement, what its answer has.
  public let statementTimeout: Duration
  /// And what the server has to say that a statement is cancelled, before its connection is given up.
  public let cancelGrace: Duration

  public init(leaseSeconds: Double) {
    heartbeatInterval = .seconds(min(1, leaseSeconds / 3))
    patience = .seconds(leaseSeconds / 2)
    cancelGrace = min(.seconds(1), patience / 4)
    statementTimeout = patience - cancelGrace
  }
}
