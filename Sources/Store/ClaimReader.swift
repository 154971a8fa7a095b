import FoundationEssentials
import Jobs
import Postgres

/// Reads the rows of one claim's answer. Its jobs mostly have the same limits and the same policy, which are read once.
struct ClaimReader {
  private let decoder = JSONDecoder()
  private var limits: [String: Limits] = [:]
  private var policies: [String: (digest: Digest, document: String)] = [:]
  /// The job before: what is enqueued again and again, by a schedule or an agent's tool, is often the same text.
  private var last: (text: String, read: Result<JobSpecification, any Error>)?

  /// A row of `claim`. What cannot be read becomes the claim's error and never a thrown one: the lease is taken, and
  /// only its holder can end it with a reason.
  mutating func claim(_ row: Row, mayHaveBegun: Bool) throws -> Claim {
    let policy = try policy(row)
    let specification = specification(try row.get("specification"))
    let limits = limits(row)
    var problem: String?
    if case .failure(let error) = specification { problem = "specification: \(error)" }
    if case .failure(let error) = limits { problem = "limits: \(error)" }
    return Claim(
      job: try Store.jobID(row), attempt: try row.get("attempt"), token: try row.get("token"),
      tenant: try row.get("tenant"), queue: try row.get("queue"), enqueuedBy: try row.get("enqueued_by"),
      specification: problem == nil ? try? specification.get() : nil, specificationError: problem,
      limits: (try? limits.get()) ?? Limits(), policy: policy.digest, policyDocument: policy.document,
      paramsText: try row.get("params"), lane: try row.get("lane"), rank: try row.get("rank"),
      isBegun: mayHaveBegun ? try row.get("begun") : false)
  }

  private mutating func specification(_ text: String) -> Result<JobSpecification, any Error> {
    if let last, last.text == text { return last.read }
    let read = Result { try decoder.decode(JobSpecification.self, from: Data(text.utf8)) }
    last = (text, read)
    return read
  }

  private mutating func limits(_ row: Row) -> Result<Limits, any Error> {
    Result {
      let text = try row.get("limits", as: String.self)
      if let known = limits[text] { return known }
      let read = try decoder.decode(Limits.self, from: Data(text.utf8))
      limits[text] = read
      return read
    }
  }

  private mutating func policy(_ row: Row) throws -> (digest: Digest, document: String) {
    let name = try row.get("policy", as: String.self)
    if let known = policies[name] { return known }
    guard let digest = Digest(name) else { throw PostgresError(.decoding, "\(name) is no digest") }
    // In the first row of each policy.
    let read = (digest, try row.get("document", as: String.self))
    policies[name] = read
    return read
  }
}
