import ArgumentParser
import Store

struct Cancel: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Cancel a job: a queued one ends at once, a running one within two seconds.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String
  @Flag(help: "Print {\"job\": …, \"state\": …}.")
  var json = false

  func run() async throws {
    let id = try jobID(job)
    try await database.withStore { store in
      let state = try await store.cancel(id)
      Terminal.line(json ? #"{"job":"\#(id)","state":"\#(state)"}"# : state)
    }
  }
}
