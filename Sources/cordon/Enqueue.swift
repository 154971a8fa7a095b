import ArgumentParser
import Foundation
import Jobs
import Store

struct Enqueue: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Enqueue a job and print its id.",
    usage: "cordon enqueue [options] (FILE [ARGS…] | -- ARGV… | --specification FILE)",
    discussion: """
      Takes the options of `cordon run`, or a whole specification as JSON, as SQL's cordon.enqueue does:
        echo '{"runtime": "bash", "code": "date"}' | cordon enqueue --specification -
      """)

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "Print {\"job\": …, \"created\": …}.")
  var json = false
  @Option(name: .customLong("specification"), help: "A file with the specification as JSON ('-' for stdin).")
  var document: String?
  @Option(help: "Start not before this time (ISO 8601, such as 2026-10-31T18:00:00Z).")
  var at: String?
  @Option(help: "Do not start it after this time; it then ends as expired.")
  var startBefore: String?
  @Option(help: "The key is of the tenant, or of this queue: tenant or queue.")
  var keyScope: String?
  @Option(help: "After this long, such as 24h, the key is as if it had never been used. Default: never.")
  var keyExpires: String?
  @OptionGroup var specification: SpecificationOptions

  func run() async throws {
    try specification.rejectStrayOption(of: Self.self)
    let runAt = try at.map { try Self.time($0, option: "--at") }
    let latest = try startBefore.map { try Self.time($0, option: "--start-before") }
    let expires = try keyExpires.map { try QueueLimit.seconds($0, option: "--key-expires") }
    try await database.withStore { store in
      let text = try await wholeSpecification(store)
      let enqueued = try await store.enqueue(
        queue: specification.queue, specification: text, key: specification.key, runAt: runAt,
        priority: specification.priority, startBefore: latest, keyScope: keyScope, keyExpires: expires,
        lane: specification.lane,
        after: try specification.parents(), onFailure: specification.onFailure)
      if json {
        Terminal.line(#"{"job":"\#(enqueued.job)","created":\#(enqueued.created)}"#)
      } else {
        Terminal.line(enqueued.job.description)
      }
    }
  }

  private static func time(_ text: String, option: String) throws -> Date {
    guard let date = try? Date(text, strategy: .iso8601) else {
      throw Failure(.usage, "\(option): '\(text)' is no ISO 8601 time such as 2026-10-31T18:00:00Z")
    }
    return date
  }

  private func wholeSpecification(_ store: Store) async throws -> String {
    guard let document else { return try await specification.specification(store: store) }
    guard specification.command.isEmpty, specification.inlineCode == nil, specification.inputs.isEmpty else {
      throw Failure(.usage, "--specification: takes the whole job from the file; leave out FILE, --code and --input")
    }
    let data = Data(try readFile(document, field: "--specification"))
    guard let text = String(validating: data, as: UTF8.self) else {
      throw Failure(.usage, "--specification: is no UTF-8 text")
    }
    do {
      _ = try JSONDecoder().decode(JSONValue.self, from: data)
    } catch {
      throw Failure(.usage, "--specification: is no JSON: \(Self.reason(error))")
    }
    return text
  }

  private static func reason(_ error: any Error) -> String {
    guard case DecodingError.dataCorrupted(let context) = error else { return "\(error)" }
    let cause = context.underlyingError.map { ($0 as NSError).userInfo["NSDebugDescription"] as? String ?? "\($0)" }
    return cause ?? context.debugDescription
  }
}
