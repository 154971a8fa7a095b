import ArgumentParser
import Foundation
import Jobs
import Policies
import Store

struct PolicySimulate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", abstract: "Say which jobs of the past a document would have refused.",
    discussion: """
      Needs a member of cordon_operator. The document is taken as if it had been in force, or with a tenant, a queue or
      both as if it had been bound there. What was refused then is not on record, so nothing is said of it. The exit
      code is 1 where a job would have been refused, else 0.
      """)

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var scope: PolicyScope
  @Argument(help: "A file with the document as YAML or JSON ('-' for stdin).")
  var file: String
  @Option(help: "How far to look back, such as 12h or 30d.")
  var since = "7d"
  @Option(help: "Jobs to look at, the newest first.")
  var limit = 10_000
  @Flag(help: "One JSON object.")
  var json = false

  func run() async throws {
    let document = try readPolicy(file, as: scope.isEverybody ? .ceiling : .narrowing)
    let seconds = try QueueLimit.seconds(since, option: "--since")
    let text = try await database.withStore {
      try await $0.simulatePolicy(
        document.json, tenant: scope.tenant, queue: scope.queue, seconds: seconds, most: limit)
    }
    let outcome = try parseRecord(text)
    let refused = outcome["would_be_refused"]?.array ?? []
    if json {
      Terminal.line(text)
    } else {
      let count = refused.reduce(0) { $0 + ($1["jobs"]?.integer ?? 0) }
      Terminal.errorLine(
        "\(RecordView.text(outcome["jobs"])) jobs of the last \(since); \(count) would have been refused")
      var table = Table(["JOBS", "WHY", "LINE", "ONE OF THEM"])
      for flip in refused {
        let line = flip["member"]?.string.flatMap { document.source.line(of: $0) }
        table.add([
          RecordView.text(flip["jobs"]), RecordView.text(flip["reason"]), line.map { "\($0)" } ?? "-",
          RecordView.text(flip["example"]),
        ])
      }
      if !refused.isEmpty { for line in table.lines { Terminal.line(line) } }
    }
    if !refused.isEmpty { throw ExitCode(1) }
  }
}
