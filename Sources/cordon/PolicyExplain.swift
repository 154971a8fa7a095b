import ArgumentParser
import Foundation
import Jobs
import Policies
import Store

struct PolicyExplain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain", abstract: "Say what a tenant may do in a queue, and which line of which document decided.",
    discussion: """
      For operators and auditors. With a specification, says whether it would be taken, and if not, why and by which
      document (exit code 4).
      """)

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var scope: PolicyScope
  @Option(help: "A file with a job's specification as JSON ('-' for stdin).")
  var specification: String?
  @Flag(help: "One JSON object.")
  var json = false

  func run() async throws {
    let request = try specification.map { String(decoding: try readFile($0, field: "--specification"), as: UTF8.self) }
    try await database.withStore { store in
      let text = try await store.explainPolicy(tenant: scope.tenant, queue: scope.queue, specification: request)
      let explained = try parseRecord(text)
      if json {
        Terminal.line(text)
      } else if request == nil {
        try await list(explained, store)
      }
      guard request != nil, explained["request"]?["allowed"] != .bool(true) else {
        if request != nil, !json { Terminal.line("allowed under \(RecordView.text(explained["policy"]))") }
        return
      }
      throw Failure(.refused, try await refusal(explained["request"]?["refused"], store))
    }
  }

  private func list(_ explained: JSONValue, _ store: Store) async throws {
    var table = Table(["MEMBER", "VALUE", "DECIDED BY", "POLICY", "LINE"])
    var sources: [String: PolicySource?] = [:]
    for member in explained["members"]?.array ?? [] {
      let path = RecordView.text(member["member"])
      table.add([
        path, RecordView.text(member["value"]), RecordView.text(member["scope"]), Self.short(member["policy"]),
        try await line(of: path, in: member["policy"], &sources, store),
      ])
    }
    Terminal.errorLine("policy \(RecordView.text(explained["policy"]))")
    for line in table.lines { Terminal.line(line) }
  }

  private func refusal(_ refused: JSONValue?, _ store: Store) async throws -> String {
    var sources: [String: PolicySource?] = [:]
    var text = RecordView.text(refused?["reason"])
    if let fix = refused?["fix"]?.string { text += " (\(fix))" }
    guard let decider = refused?["decided_by"], decider.object != nil else { return text }
    let member = RecordView.text(refused?["member"])
    let line = try await line(of: member, in: decider["policy"], &sources, store)
    return text + "; decided by \(member), "
      + (line == "-" ? "" : "line \(line) ")
      + "of \(RecordView.text(decider["policy"])) (\(RecordView.text(decider["scope"])))"
  }

  /// Where the member stands in the document as somebody wrote it; `-` where that is not known.
  private func line(
    of path: String, in digest: JSONValue?, _ sources: inout [String: PolicySource?], _ store: Store
  ) async throws -> String {
    guard let digest = digest?.string.flatMap({ Digest($0) }) else { return "-" }
    if sources[digest.description] == nil {
      let source = try await store.policyDocument(digest).source
      sources[digest.description] = .some(source.flatMap { try? PolicySource($0) })
    }
    guard let source = sources[digest.description] ?? nil, let line = source.line(deciding: path) else { return "-" }
    return "\(line)"
  }

  private static func short(_ digest: JSONValue?) -> String { String(RecordView.text(digest).prefix(19)) }
}
