import FoundationEssentials
import Jobs

/// The attempt a token is for: what the claim `cordon` says.
public struct AttemptIdentity: Equatable, Sendable {
  /// The job's id, in lower case.
  public var job: String
  /// From 1.
  public var attempt: Int
  /// The fencing token of the attempt's lease. In JSON it is a decimal string, since many readers keep no integer above 2^53.
  public var token: Int64
  public var queue: String
  public var tenant: String
  /// The role that enqueued the job.
  public var submitter: String
  /// Through whom the submitter acted, the first one first.
  public var actors: [String]
  /// The digest of the policy the attempt runs under.
  public var policy: Digest
  /// The digests of the programs it runs.
  public var code: [Digest]

  public init(
    job: String, attempt: Int, token: Int64, queue: String, tenant: String, submitter: String, actors: [String] = [],
    policy: Digest, code: [Digest]
  ) {
    self.job = job
    self.attempt = attempt
    self.token = token
    self.queue = queue
    self.tenant = tenant
    self.submitter = submitter
    self.actors = actors
    self.policy = policy
    self.code = code
  }

  /// So that a token stays below the 8 KiB that servers allow for a header.
  static let mostNames = 8

  /// Throws where a component is none; tenant and queue are the subject's to judge.
  func validate() throws(TokenProblem) {
    let groups = job.split(separator: "-", omittingEmptySubsequences: false)
    let isUUID =
      groups.map(\.utf8.count) == [8, 4, 4, 4, 12]
      && groups.joined().utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    guard isUUID else { throw .claim("cordon.job", "is no lower-case UUID") }
    guard attempt > 0 else { throw .claim("cordon.attempt", "is not above 0") }
    guard token > 0 else { throw .claim("cordon.token", "is not above 0") }
    try PartyName.check(submitter, "cordon.submitter")
    guard actors.count <= Self.mostNames, code.count <= Self.mostNames else {
      throw .claim("cordon", "has more than \(Self.mostNames) actors or programs")
    }
    for actor in actors { try PartyName.check(actor, "cordon.actors") }
  }
}

extension AttemptIdentity: Codable {
  enum CodingKeys: String, CodingKey {
    case job, attempt, token, queue, tenant, submitter, actors, policy, code
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let text = try container.decode(String.self, forKey: .token)
    guard let token = Int64(text), String(token) == text else {
      throw DecodingError.dataCorruptedError(forKey: .token, in: container, debugDescription: "no decimal string")
    }
    self.init(
      job: try container.decode(String.self, forKey: .job), attempt: try container.decode(Int.self, forKey: .attempt),
      token: token, queue: try container.decode(String.self, forKey: .queue),
      tenant: try container.decode(String.self, forKey: .tenant),
      submitter: try container.decode(String.self, forKey: .submitter),
      actors: try container.decode([String].self, forKey: .actors),
      policy: try container.decode(Digest.self, forKey: .policy),
      code: try container.decode([Digest].self, forKey: .code))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(job, forKey: .job)
    try container.encode(attempt, forKey: .attempt)
    try container.encode(String(token), forKey: .token)
    try container.encode(queue, forKey: .queue)
    try container.encode(tenant, forKey: .tenant)
    try container.encode(submitter, forKey: .submitter)
    try container.encode(actors, forKey: .actors)
    try container.encode(policy, forKey: .policy)
    try container.encode(code, forKey: .code)
  }
}

/// The name of a person, an agent or a role, as it may stand in a claim.
enum PartyName {
  static let mostBytes = 255

  static func check(_ name: String, _ claim: String) throws(TokenProblem) {
    guard (1...mostBytes).contains(name.utf8.count) else { throw .claim(claim, "has not 1 to \(mostBytes) bytes") }
    for scalar in name.unicodeScalars {
      switch scalar.properties.generalCategory {
      // Invisible, or able to reorder what stands beside them: whoever reads the name in a log must see this name.
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned, .privateUse:
        throw .claim(claim, "has a character that does not print")
      default: break
      }
    }
  }
}
