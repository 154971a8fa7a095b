import Jobs

/// What a worker is told at its start. Nothing of it changes while it runs.
public struct WorkerConfiguration: Sendable {
  /// Name shown to people; need not be unique.
  public var name: String
  /// Host name as recorded in the attribution of every attempt.
  public var host: String
  /// Digest over the two executables, recorded in the attribution of every attempt.
  public var build: Digest
  /// Attempts at once.
  public var slots: Int
  /// Queues to claim from.
  public var queues: [String]
  /// How long the database waits for a heartbeat before another worker may take the attempts over, in seconds.
  /// The worker ends its own cells after the same time without an acknowledged heartbeat.
  public var leaseSeconds: Double
  /// Directory published artifacts go to.
  public var approvedRoot: String
  /// Directory beneath which `path` inputs are looked up; nil: such inputs are refused.
  public var inputRoot: String?
  /// How long a drain waits for running attempts before it ends and releases them.
  public var drainTimeout: Duration
  /// Time between heartbeats. Cancelling must take effect within 2 s, so at most 1 s.
  public var heartbeatInterval: Duration
  /// Time between claims when no notification arrives.
  public var pollInterval: Duration
  /// The longest time between two looks from inside a cell at whether every control still holds.
  public var canaryInterval: Duration

  public init(
    name: String, host: String, build: Digest, slots: Int, queues: [String], approvedRoot: String,
    inputRoot: String? = nil, leaseSeconds: Double = 15, drainTimeout: Duration = .seconds(30),
    heartbeatInterval: Duration = .seconds(1), pollInterval: Duration = .seconds(1),
    canaryInterval: Duration = .seconds(180)
  ) {
    self.name = name
    self.host = host
    self.build = build
    self.slots = slots
    self.queues = queues
    self.leaseSeconds = leaseSeconds
    self.approvedRoot = approvedRoot
    self.inputRoot = inputRoot
    self.drainTimeout = drainTimeout
    self.heartbeatInterval = heartbeatInterval
    self.pollInterval = pollInterval
    self.canaryInterval = canaryInterval
  }
}
