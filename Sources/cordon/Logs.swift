import ArgumentParser
import Foundation
import Jobs
import Store

struct Logs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what a job wrote to stdout and stderr.",
    discussion: """
      Stdout goes to stdout and stderr to stderr: byte for byte into a file or pipe, escaped onto a terminal.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String
  @Flag(name: [.short, .long], help: "Go on until the job has ended.")
  var follow = false
  @Option(help: "An attempt; default: the newest.")
  var attempt: Int?
  @Flag(help: "Do not escape, even on a terminal.")
  var raw = false
  @Flag(help: "One JSON object a piece: attempt, stream, sequence, at, base64.")
  var json = false

  func run() async throws {
    let id = try jobID(job)
    try await database.withStore { store in
      if follow {
        var follower = Follower(store: store, job: id, attempt: attempt)
        follower.output = { show($0) }
        _ = try await follower.untilFinished()
        return
      }
      // Asked first, so that an unknown job is an error and not an empty log.
      let record = try parseRecord(try await store.record(id, attempt: attempt))
      guard let number = record["attempt"]?.integer.map(Int.init) else { return }
      var sequence: Int64 = 0
      while true {
        let chunks = try await store.logs(id, attempt: number, after: sequence, limit: Follower.batch)
        for chunk in chunks {
          show(chunk)
          sequence = chunk.sequence
        }
        if chunks.count < Follower.batch { return }
      }
    }
  }

  private func show(_ chunk: Store.LogChunk) {
    if json {
      let encoded = Data(chunk.bytes).base64EncodedString()
      Terminal.line(
        #"{"attempt":\#(chunk.attempt),"stream":"\#(chunk.stream)","sequence":\#(chunk.sequence),"#
          + #""at":"\#(chunk.at.ISO8601Format())","base64":"\#(encoded)"}"#)
    } else {
      Terminal.jobBytes(chunk.bytes, to: chunk.stream == "stderr" ? STDERR_FILENO : STDOUT_FILENO, raw: raw)
    }
  }
}
