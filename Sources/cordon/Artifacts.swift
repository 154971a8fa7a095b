import ArgumentParser
import Foundation
import Jobs
import Store

struct Artifacts: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List a job's artifacts, or copy them out with --to.",
    discussion: """
      Copies are checked against the digests of the record, made with plain permissions, and never overwrite a file
      or leave the target directory. Artifacts lie on the worker's host; `cordon show` names host and directory.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String
  @Option(help: ArgumentHelp("Directory to copy to; made when it does not exist.", valueName: "DIR"))
  var to: String?
  @Option(help: "An earlier attempt; default: the newest.")
  var attempt: Int?
  @Flag(help: "The list as JSON.")
  var json = false

  func run() async throws {
    let id = try jobID(job)
    try await database.withStore { store in
      let record = try parseRecord(try await store.record(id, attempt: attempt))
      let listed = record["artifacts"] ?? .array([])
      let artifacts = try JSONDecoder().decode([Artifact].self, from: JSONEncoder().encode(listed))
      if let to, !artifacts.isEmpty {
        guard let published = record["published"]?.string else {
          throw Failure(.environment, "the record of job \(id) names no directory")
        }
        guard FileManager.default.fileExists(atPath: published) else {
          let host = RecordView.text(record["attribution"]?["host"])
          throw Failure(.environment, "the artifacts lie on host '\(host)' in '\(published)', which is not here")
        }
        try Export(published: published, target: Installation.absolute(to)).copy(artifacts)
      }
      if json {
        Terminal.line(String(decoding: try JSONEncoder().encode(artifacts), as: UTF8.self))
        return
      }
      var table = Table(["SHA256", "BYTES", "PATH"])
      for artifact in artifacts {
        table.add([artifact.sha256.description, String(artifact.bytes), artifact.path])
      }
      for line in table.lines { Terminal.line(line) }
    }
  }
}
