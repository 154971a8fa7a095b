import FoundationEssentials
import Jobs

/// The id of a job: a UUID of version 7, so ids sort by the time of enqueueing.
public struct JobID: Sendable, Hashable, CustomStringConvertible {
  /// Lower-case hex digits in groups of 8, 4, 4, 4 and 12.
  public let description: String

  /// Reads the usual text form of a UUID in either case; nil for anything else.
  public init?(_ text: String) {
    // By its bytes: a worker reads one for each job of every answer.
    let isUUID =
      text.utf8.count == 36
      && text.utf8.enumerated().allSatisfy { index, byte in
        switch index {
        case 8, 13, 18, 23: byte == UInt8(ascii: "-")
        default: (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte) || (0x41...0x46).contains(byte)
        }
      }
    guard isUUID else { return nil }
    description = text.utf8.contains { (0x41...0x46).contains($0) } ? text.lowercased() : text
  }
}

/// What an enqueue came to.
public struct Enqueued: Sendable, Equatable {
  public let job: JobID
  /// False when the idempotency key had been used for the same request; `job` is that earlier one.
  public let created: Bool

  public init(job: JobID, created: Bool) {
    self.job = job
    self.created = created
  }
}

/// One job that a worker holds a lease on.
public struct Claim: Sendable {
  public let job: JobID
  /// From 1.
  public let attempt: Int
  /// Fencing token of the lease: fresh on every claim, and proof of it in every later call.
  public let token: Int64
  public let tenant: String
  public let queue: String
  /// The role whose session enqueued the job.
  public let enqueuedBy: String
  /// Nil when this version cannot read it; then `specificationError` says why, and the job is to be refused.
  public let specification: JobSpecification?
  public let specificationError: String?
  public let limits: Limits
  /// The policy the job was accepted under.
  public let policy: Digest
  /// The canonical text of that policy; whoever enforces it checks its digest first.
  public let policyDocument: String
  /// The specification's `params` as the database holds them: JSON text with every number exactly as it was given,
  /// which `specification` cannot promise. Nil when there are none.
  public let paramsText: String?
  /// Where it stood in its queue; see `LaneSearch`.
  public let lane: Int32
  public let rank: Int64
  /// Its start is on record already: the claim was of this job alone, which needs no more than its specification.
  public var isBegun: Bool

  public init(
    job: JobID, attempt: Int, token: Int64, tenant: String, queue: String, enqueuedBy: String,
    specification: JobSpecification?, specificationError: String?, limits: Limits, policy: Digest,
    policyDocument: String, paramsText: String? = nil, lane: Int32 = 0, rank: Int64 = 0, isBegun: Bool = false
  ) {
    self.job = job
    self.attempt = attempt
    self.token = token
    self.tenant = tenant
    self.queue = queue
    self.enqueuedBy = enqueuedBy
    self.specification = specification
    self.specificationError = specificationError
    self.limits = limits
    self.policy = policy
    self.policyDocument = policyDocument
    self.paramsText = paramsText
    self.lane = lane
    self.rank = rank
    self.isBegun = isBegun
  }
}

/// What the final attempt of a job made.
public struct MadeByJob: Sendable, Equatable {
  public let attempt: Int
  /// JSON text; nil where it wrote none.
  public let result: String?
  public let artifacts: [Artifact]
}

/// What a heartbeat says of a job; a job it does not name goes on.
public enum HeartbeatVerdict: String, Sendable {
  /// Somebody cancelled it: stop it and report.
  case cancel
  /// It is revoked: it stands still until a heartbeat does not say so any more.
  case freeze
  /// The lease is gone: stop it and report nothing.
  case lost
}

/// What the database says of a directory that an attempt published.
public enum PublishedVerdict: String, Sendable {
  /// The attempt's record names it.
  case published
  /// The attempt is over and no record will ever name it: withdraw it.
  case dead
  /// The attempt is running, or not yet begun.
  case open
  /// There is no such job for this worker's role.
  case unknown
}

extension Store {
  /// A piece of what an attempt wrote.
  public struct LogChunk: Sendable, Equatable {
    public let attempt: Int
    /// `stdout` or `stderr`.
    public let stream: String
    /// One sequence per attempt over both streams.
    public let sequence: Int64
    /// When the database received it.
    public let at: Date
    public let bytes: [UInt8]
  }
}
