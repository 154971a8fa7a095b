import ArgumentParser
import Store

struct Show: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the record of a job: outcome, usage, attribution, artifacts.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String
  @Option(help: "An earlier attempt; default: the newest.")
  var attempt: Int?
  @Flag(help: "The record as JSON.")
  var json = false

  func run() async throws {
    let id = try jobID(job)
    try await database.withStore { store in
      let text = try await store.record(id, attempt: attempt)
      if json {
        Terminal.line(text)
      } else {
        for line in RecordView(try parseRecord(text)).full() { Terminal.line(line) }
      }
    }
  }
}
