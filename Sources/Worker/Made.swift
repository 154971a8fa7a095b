import Jobs
import Sandbox
import Store

/// A file that another job published, as an input of this one. It lies on the host of the worker that ran that job; here it
/// is found only where both share the directory of artifacts. Its bytes are those that were recorded, or the job is refused.
struct Made: Sendable {
  private let root: String
  private let path: String
  private let artifact: Artifact

  /// - Parameter artifact: a job's id, a slash, and the path of a file of its final attempt.
  static func of(artifact: String, field: String, run: AttemptRun) async throws -> Made {
    guard let slash = artifact.firstIndex(of: "/"), let parent = JobID(String(artifact[..<slash])) else {
      throw Refusal("\(field): names no artifact of a job")
    }
    let path = String(artifact[artifact.index(after: slash)...])
    let made = try await read(parent, field: field, run: run)
    guard let known = made.artifacts.first(where: { $0.path == path }) else {
      throw Refusal("\(field): job \(parent) published no \(path)")
    }
    return Made(
      root: run.configuration.approvedRoot, path: "\(run.claim.tenant)/\(parent)/\(made.attempt)/\(path)",
      artifact: known)
  }

  /// The result document of a job as the database keeps it.
  static func result(of parent: String, field: String, run: AttemptRun) async throws -> [UInt8] {
    guard let parent = JobID(parent) else { throw Refusal("\(field): names no job") }
    guard let result = try await read(parent, field: field, run: run).result else {
      throw Refusal("\(field): job \(parent) has no result")
    }
    return Array(result.utf8)
  }

  private static func read(_ parent: JobID, field: String, run: AttemptRun) async throws -> MadeByJob {
    let made = try await run.insist {
      try await run.store.readMade(worker: run.worker, claim: run.claim, parent: parent)
    }
    guard let made else { throw Refusal("\(field): job \(parent) is not over; enqueue this one after it") }
    return made
  }

  func copy(as name: String, field: String, stage: Stage) async throws -> InputFacts {
    let facts = try await Materials.namingInput(field) { try stage.copyInput(name: name, root: root, path: path) }
    try check(facts.sha256, field: field)
    return facts
  }

  func bytes(field: String) async throws -> [UInt8] {
    let bytes = try await Materials.namingInput(field) { try Stage.readBeneath(root: root, path: path) }
    try check(sha256(bytes), field: field)
    return bytes
  }

  private func check(_ digest: Digest, field: String) throws {
    guard digest == artifact.sha256 else {
      throw Refusal("\(field): \(artifact.path) is not what was recorded; it has \(digest)")
    }
  }
}
