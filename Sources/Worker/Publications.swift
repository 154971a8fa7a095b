import Foundation
import Jobs
import Logging
import Sandbox
import Store

/// Directories that were published and whose record is not known to be written.
///
/// Publishing comes before recording, so a worker that dies in between leaves a directory no record vouches for. A
/// note beneath the state directory is made durable before the rename and removed once the database has answered;
/// whoever finds a note later asks the database what became of that attempt.
struct Publications: Sendable {
  private let directory: URL

  private struct Note: Codable {
    var job: String
    var attempt: Int
    var published: String
  }

  /// - Parameter stateDirectory: the worker's own; notes of an earlier worker in it are settled by this one.
  init(stateDirectory: String) throws {
    directory = URL(fileURLWithPath: stateDirectory).appending(path: "publications")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    // What is not called as a note is one that was being written when its worker died, before it was renamed; nothing was
    // published under it.
    for file in try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)
    where !Self.isNote(file.lastPathComponent) { try FileManager.default.removeItem(at: file) }
  }

  /// Before the rename.
  func begin(_ claim: Claim, path: String) throws {
    let note = Note(job: claim.job.description, attempt: claim.attempt, published: path)
    let file = url(claim.job.description, claim.attempt)
    try JSONEncoder().encode(note).write(to: file, options: .atomic)
    let handle = try FileHandle(forUpdating: file)
    try handle.synchronize()
    try handle.close()
    // The name as well as the bytes, or a crash would leave the published directory and no note.
    let names = open(directory.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard names >= 0 else { throw CocoaError(.fileNoSuchFile) }
    defer { close(names) }
    guard fsync(names) == 0 else { throw CocoaError(.fileWriteUnknown) }
  }

  /// The database has said what became of the attempt, and the directory is as it should be.
  func settled(_ claim: Claim) {
    try? FileManager.default.removeItem(at: url(claim.job.description, claim.attempt))
  }

  /// Asks the database about every note and withdraws the directories of attempts that ended without them.
  /// - Parameter held: attempts that still run here; they settle their own.
  func settleOld(
    store: Store, worker: Int64, held: [(job: JobID, attempt: Int)], logger: Logger
  ) async throws {
    let notes = try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil).compactMap {
      try? JSONDecoder().decode(Note.self, from: Data(contentsOf: $0))
    }
    let known = notes.compactMap { note in JobID(note.job).map { (note, (job: $0, attempt: note.attempt)) } }
      .filter { entry in !held.contains { $0 == entry.1 } }
    guard !known.isEmpty else { return }
    let verdicts = try await store.published(worker: worker, known.map(\.1))
    for ((note, _), verdict) in zip(known, verdicts) {
      do {
        switch verdict {
        case .open, .unknown: continue
        case .dead:
          logger.notice(
            "withdrawing outputs of an attempt that was not recorded", metadata: ["path": "\(note.published)"])
          try await onBlockingThread { try Outputs.withdraw(note.published) }
        case .published: break
        }
        try FileManager.default.removeItem(at: url(note.job, note.attempt))
      } catch {
        // One that cannot be settled now must not keep the others from it.
        logger.warning("outputs could not be settled", metadata: ["path": "\(note.published)", "error": "\(error)"])
      }
    }
  }

  private static func isNote(_ name: String) -> Bool {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 2 && JobID(String(parts[0])) != nil && Int(parts[1]) != nil
  }

  private func url(_ job: String, _ attempt: Int) -> URL { directory.appending(path: "\(job).\(attempt)") }
}
