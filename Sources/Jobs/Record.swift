/// One output file as it was published.
public struct Artifact: Codable, Equatable, Sendable {
  /// Path beneath the attempt's directory, `/` between components; bytes that are no UTF-8 stand as `\xNN`.
  public var path: String
  public var bytes: Int64
  public var sha256: Digest

  public init(path: String, bytes: Int64, sha256: Digest) {
    self.path = path
    self.bytes = bytes
    self.sha256 = sha256
  }
}

/// One entry of the output tree that was refused: listed, never opened, never published.
public struct Quarantined: Codable, Equatable, Sendable {
  public var path: String
  /// `symlink`, `hardlink`, `fifo`, `socket`, `device`, `unreadable`, `too_large`, `too_many`, `too_deep`, `name`, `secret`,
  /// `changed`.
  public var reason: String

  public init(path: String, reason: String) {
    self.path = path
    self.reason = reason
  }
}

/// What one attempt used.
public struct Usage: Codable, Equatable, Sendable {
  public var wallSeconds: Double
  public var cpuSeconds: Double
  /// Nil where the kernel keeps no peak (unified cgroups before Linux 5.19).
  public var memoryPeakBytes: Int64?
  /// Bytes published from the output area.
  public var outputBytes: Int64

  enum CodingKeys: String, CodingKey {
    case wallSeconds = "wall_seconds"
    case cpuSeconds = "cpu_seconds"
    case memoryPeakBytes = "memory_peak_bytes"
    case outputBytes = "output_bytes"
  }

  public init(wallSeconds: Double, cpuSeconds: Double, memoryPeakBytes: Int64?, outputBytes: Int64) {
    self.wallSeconds = wallSeconds
    self.cpuSeconds = cpuSeconds
    self.memoryPeakBytes = memoryPeakBytes
    self.outputBytes = outputBytes
  }
}

/// One captured stream: how much the job wrote, and whether what was kept is less.
public struct StreamFacts: Codable, Equatable, Sendable {
  /// Every byte the job wrote, kept or not.
  public var bytes: Int64
  public var truncated: Bool

  public init(bytes: Int64 = 0, truncated: Bool = false) {
    self.bytes = bytes
    self.truncated = truncated
  }
}

/// What a job's `/output` lies on.
public enum OutputStorage: String, Codable, Sendable {
  /// The cell's memory, and so within its memory limit.
  case memory
  /// A filesystem of its own on the worker's disk.
  case disk
}

/// What a running job says of how far it is: the JSON document it keeps in `CORDON_PROGRESS`. The worker looks once in
/// `interval`, so a job that is over sooner is never heard.
public enum ProgressReport {
  /// Bytes of the document. `report_progress` refuses longer ones.
  public static let longest: Int64 = 1_024
  public static let interval = Duration.seconds(1)
}

/// How the cell of an attempt was confined, as the warden and the kernel stated it.
public struct Isolation: Codable, Equatable, Sendable {
  /// `v2` or `hybrid`.
  public var cgroup: String
  /// Namespaces of the cell that differ from the warden's, by the kernel's names: `mnt`, `pid`, `net`, ….
  public var namespaces: [String]
  /// Digest of the seccomp program that was loaded.
  public var filter: Digest
  /// The unprivileged uid the job had; nil until the cell exists.
  public var uid: UInt32?
  /// Controls the policy allowed to be missing; empty means none.
  public var waivers: [String]
  public var outputs: OutputStorage
  /// What it could reach and reached; nil where it had no grants.
  public var egress: EgressFacts?

  public init(
    cgroup: String, namespaces: [String], filter: Digest, uid: UInt32?, waivers: [String] = [],
    outputs: OutputStorage = .memory, egress: EgressFacts? = nil
  ) {
    self.egress = egress
    self.cgroup = cgroup
    self.namespaces = namespaces
    self.filter = filter
    self.uid = uid
    self.waivers = waivers
    self.outputs = outputs
  }
}

/// The grants of an attempt, and what its ledger came to.
public struct EgressFacts: Codable, Equatable, Sendable {
  /// Names, in the order of the job's.
  public var grants: [String]
  /// Lines of the ledger.
  public var lines: Int64
  /// Digest of the last line; where there is none, what the first would have been chained to. Nil until the attempt is over.
  public var head: Digest?
  /// Refusals for which the ledger had no room.
  public var unrecorded: Int64

  public init(grants: [String], lines: Int64 = 0, head: Digest? = nil, unrecorded: Int64 = 0) {
    self.grants = grants
    self.lines = lines
    self.head = head
    self.unrecorded = unrecorded
  }
}

/// An input or program as it was given to the cell.
public struct InputFacts: Codable, Equatable, Sendable {
  public var name: String
  public var sha256: Digest
  public var bytes: Int64

  public init(name: String, sha256: Digest, bytes: Int64) {
    self.name = name
    self.sha256 = sha256
    self.bytes = bytes
  }
}

/// What is known of an attempt's attribution when it starts. It stands in the record while the attempt runs, and for
/// good where no worker reports how it ended.
public struct StartAttribution: Codable, Equatable, Sendable {
  public var code: Digest?
  public var inputs: [InputFacts]
  public var isolation: Isolation?

  public init(code: Digest? = nil, inputs: [InputFacts] = [], isolation: Isolation? = nil) {
    self.code = code
    self.inputs = inputs
    self.isolation = isolation
  }
}

/// What a worker reports of a finished attempt; the database adds who, when and under which lease.
public struct AttemptReport: Codable, Equatable, Sendable {
  public var outcome: String
  public var exitCode: Int32?
  public var signal: Int32?
  /// Why, in one line, where the outcome alone does not say it (`refused`, an invalid result).
  public var reason: String?
  public var notes: [String]
  /// What the job wrote to `CORDON_RESULT`.
  public var result: JSONValue?
  public var stdout: StreamFacts
  public var stderr: StreamFacts
  public var usage: Usage?
  public var artifacts: [Artifact]
  public var quarantined: [Quarantined]
  /// Directory the artifacts were published to, on the worker's host; nil when there are none.
  public var published: String?
  public var code: Digest?
  public var inputs: [InputFacts]
  public var isolation: Isolation?

  enum CodingKeys: String, CodingKey {
    case outcome, signal, reason, notes, result, stdout, stderr, usage, artifacts, quarantined, published, code, inputs
    case isolation
    case exitCode = "exit_code"
  }

  public init(
    outcome: Outcome, reason: String? = nil, notes: [String] = [], result: JSONValue? = nil,
    stdout: StreamFacts = .init(), stderr: StreamFacts = .init(), usage: Usage? = nil, artifacts: [Artifact] = [],
    quarantined: [Quarantined] = [], published: String? = nil, code: Digest? = nil, inputs: [InputFacts] = [],
    isolation: Isolation? = nil
  ) {
    self.outcome = outcome.name
    self.exitCode = outcome.exitCode
    self.signal = outcome.signal
    self.reason = reason
    self.notes = notes
    self.result = result
    self.stdout = stdout
    self.stderr = stderr
    self.usage = usage
    self.artifacts = artifacts
    self.quarantined = quarantined
    self.published = published
    self.code = code
    self.inputs = inputs
    self.isolation = isolation
  }
}
