import ArgumentParser
import Foundation
import Store

struct Snooze: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Put a waiting job off.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String
  @Option(name: .customLong("for"), help: "How long from now, such as 30s, 5m, 2h.")
  var span: String

  func run() async throws {
    let id = try jobID(job)
    let seconds = try QueueLimit.seconds(span, option: "--for")
    try await database.withStore { store in
      try await store.snooze(id, until: Date(timeIntervalSinceNow: seconds))
    }
  }
}
