/// Everything that is known at the end of a run: what the producers were told, what the database recorded, what lies in
/// the approved directory. Values only; moments are microseconds of the database's clock.
public struct History: Sendable {
  /// What a producer was told, as it noted it down.
  public struct Acknowledged: Sendable, Codable {
    public enum Kind: String, Sendable, Codable, CaseIterable {
      case quick, output, slow, fails, flaky, scheduled, cancelled, cancelledSoon, parent, child
    }

    public var number: Int
    public var kind: Kind
    public var key: String
    public var job: String
    public var parent: String?
    /// The digest of the one file that it publishes when it succeeds.
    public var content: String?
    /// What `cancel` answered, where somebody asked and heard it.
    public var cancel: String?

    public init(
      number: Int, kind: Kind, key: String, job: String, parent: String? = nil, content: String? = nil,
      cancel: String? = nil
    ) {
      self.number = number
      self.kind = kind
      self.key = key
      self.job = job
      self.parent = parent
      self.content = content
      self.cancel = cancel
    }
  }

  public struct Job: Sendable {
    public var id: String
    public var key: String?
    public var runAt: Int64?
    /// The instant of the schedule that it is a run of.
    public var firedFor: Int64?
    /// Every row that says where it is: of `ready`, `scheduled`, `blocked`, `lease`.
    public var places: [String]

    public init(id: String, key: String? = nil, runAt: Int64? = nil, firedFor: Int64? = nil, places: [String] = []) {
      self.id = id
      self.key = key
      self.runAt = runAt
      self.firedFor = firedFor
      self.places = places
    }
  }

  public struct Artifact: Sendable, Codable, Hashable {
    public var path: String
    public var bytes: Int64
    public var sha256: String

    public init(path: String, bytes: Int64, sha256: String) {
      self.path = path
      self.bytes = bytes
      self.sha256 = sha256
    }
  }

  public struct Attempt: Sendable {
    public var job: String
    public var number: Int
    public var final: Bool
    public var via: String
    public var outcome: String
    public var token: Int64?
    public var worker: Int64?
    public var startedAt: Int64?
    public var finishedAt: Int64
    public var published: String?
    public var artifacts: [Artifact]

    public init(
      job: String, number: Int, final: Bool, via: String = "complete", outcome: String = "succeeded",
      token: Int64? = nil, worker: Int64? = 1, startedAt: Int64? = nil, finishedAt: Int64, published: String? = nil,
      artifacts: [Artifact] = []
    ) {
      self.job = job
      self.number = number
      self.final = final
      self.via = via
      self.outcome = outcome
      self.token = token
      self.worker = worker
      self.startedAt = startedAt
      self.finishedAt = finishedAt
      self.published = published
      self.artifacts = artifacts
    }
  }

  /// A row of `audit` about a job.
  public struct Event: Sendable {
    public var what: String
    public var job: String
    public var attempt: Int?
    public var worker: Int64?
    public var token: Int64?
    public var at: Int64

    public init(what: String, job: String, attempt: Int? = nil, worker: Int64? = 1, token: Int64? = nil, at: Int64) {
      self.what = what
      self.job = job
      self.attempt = attempt
      self.worker = worker
      self.token = token
      self.at = at
    }
  }

  /// A directory of an attempt beneath the approved root.
  public struct Directory: Sendable {
    public var path: String
    public var files: [Artifact]

    public init(path: String, files: [Artifact]) {
      self.path = path
      self.files = files
    }
  }

  /// A schedule that fires at every multiple of `period`, and every instant of it that is settled.
  public struct Schedule: Sendable {
    public var period: Int64
    public var after: Int64
    public var handled: Int64

    public init(period: Int64, after: Int64, handled: Int64) {
      self.period = period
      self.after = after
      self.handled = handled
    }
  }

  public var acknowledged: [Acknowledged] = []
  public var jobs: [Job] = []
  public var attempts: [Attempt] = []
  public var events: [Event] = []
  public var directories: [Directory] = []
  public var schedule: Schedule?
  /// The moments between which all of it happened.
  public var began: Int64 = 0
  public var ended: Int64 = .max

  public init() {}
}
