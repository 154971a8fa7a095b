import Jobs
import Postgres

// What became of jobs that did not succeed, and what is done about them. Producers see and retry their tenant's, operators
// all; breakers are the operators'.
extension Store {
  /// The newest jobs that ended otherwise than by success or cancellation, and that nobody has looked at, as JSON texts.
  /// - Parameter limit: 1 to 1000.
  public func deadLetters(queue: String? = nil, limit: Int = 100) async throws -> [String] {
    try await all(.deadLetters, [Parameter(queue), Parameter(limit)]).map { try $0.get("letter") }
  }

  /// Enqueues a dead letter once more, under the policy now in force, and returns the new job.
  public func retry(_ job: JobID) async throws -> JobID {
    try Self.jobID(try await one(.retry, [Parameter(job.description)]))
  }

  /// Takes a job from the dead letters.
  public func discard(_ job: JobID) async throws {
    try await all(.discard, [Parameter(job.description)])
  }

  /// Programs whose attempts fail and are tried again, as JSON texts; those whose retries wait are `open`.
  public func breakers() async throws -> [String] {
    try await all(.breakers).map { try $0.get("breaker") }
  }

  /// Lets a program's attempts be tried again without a pause.
  public func resetBreaker(tenant: String, code: Digest) async throws {
    try await all(.resetBreaker, [Parameter(tenant), Parameter(code.description)])
  }
}
