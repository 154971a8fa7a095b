import ArgumentParser
import Broker
import Foundation
import Jobs
import Policies
import Store

struct PolicySimulate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", abstract: "Say what a document would have decided otherwise in the past.",
    discussion: """
      Needs a member of cordon_operator. The document is taken as if it had been in force, or with a tenant, a queue or
      both as if it had been bound there. Looked at are the jobs that were taken, those that were held, and what the
      broker decided while they ran. Who was refused at enqueue is not on record: the refusal ends the transaction in
      which it could be written. The exit code is 1 where a job would have been refused, or a request denied, else 0.
      """)

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var scope: PolicyScope
  @Argument(help: "A file with the document as YAML or JSON ('-' for stdin).")
  var file: String
  @Option(help: "How far to look back, such as 12h or 30d.")
  var since = "7d"
  @Option(help: "Jobs to look at, the newest first.")
  var limit = 10_000
  @Option(help: "Lines of ledgers to look at, the newest first; 0 looks at none.")
  var egressLimit = 100_000
  @Flag(help: "One JSON object.")
  var json = false

  func validate() throws {
    guard egressLimit >= 0 else { throw ValidationError("--egress-limit: \(egressLimit) is less than 0") }
  }

  func run() async throws {
    let document = try readPolicy(file, as: scope.isEverybody ? .ceiling : .narrowing)
    let seconds = try QueueLimit.seconds(since, option: "--since")
    let (jobs, egress) = try await database.withStore { store in
      let jobs = try parseRecord(
        try await store.simulatePolicy(
          document.json, tenant: scope.tenant, queue: scope.queue, seconds: seconds, most: limit))
      var egress = EgressSimulation(document.json, scope: scope, seconds: seconds, most: egressLimit)
      if egressLimit > 0 {
        try await egress.run(store) { Terminal.progress("\($0) lines of ledgers looked at") }
        Terminal.progress(nil)
      }
      return (jobs, egress)
    }
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      let whole = JSONValue.object((jobs.object ?? [:]).merging(["egress": egress.json]) { $1 })
      Terminal.line(String(decoding: try encoder.encode(whole), as: UTF8.self))
    } else {
      show(jobs, document)
      show(egress)
    }
    guard jobs["would_be_refused"]?.array?.isEmpty != false, egress.groups(.denied).isEmpty else { throw ExitCode(1) }
  }

  private func show(_ outcome: JSONValue, _ document: PolicyDocument) {
    func list(_ member: String) -> [JSONValue] { outcome[member]?.array ?? [] }
    func count(_ member: String) -> Int64 { list(member).reduce(0) { $0 + ($1["jobs"]?.integer ?? 0) } }
    Terminal.errorLine(
      "\(RecordView.text(outcome["jobs"])) jobs of the last \(since); \(count("would_be_refused")) would have been refused"
    )
    let reasons = list("would_be_refused").map { flip in
      (flip, RecordView.text(flip["reason"]), flip["member"]?.string.flatMap { document.source.line(of: $0) })
    }
    show(["JOBS", "WHY", "LINE", "ONE OF THEM"], reasons)
    if !list("would_not_be_held").isEmpty {
      Terminal.errorLine(
        "\(RecordView.text(outcome["held"])) jobs were held; \(count("would_not_be_held")) would not have been")
      show(
        ["JOBS", "HELD BECAUSE", "", "ONE OF THEM"],
        list("would_not_be_held").map { ($0, RecordView.text($0["reason"]), nil) })
    }
    if !list("would_lose").isEmpty {
      Terminal.errorLine("what jobs would have had less of; whether they used it is not on record")
      show(
        ["JOBS", "WHAT", "LINE", "ONE OF THEM"],
        list("would_lose").map { loss in
          let member = RecordView.text(loss["member"])
          return (loss, "\(member): \(RecordView.text(loss["value"]))", document.source.line(of: member))
        })
    }
  }

  private func show(_ titles: [String], _ rows: [(flip: JSONValue, what: String, line: Int?)]) {
    var table = Table(titles)
    for row in rows {
      table.add([
        RecordView.text(row.flip["jobs"]), row.what, row.line.map { "\($0)" } ?? "-",
        RecordView.text(row.flip["example"]),
      ])
    }
    if !rows.isEmpty { for line in table.lines { Terminal.line(line) } }
  }

  private func show(_ egress: EgressSimulation) {
    guard egressLimit > 0 else { return }
    func count(_ change: EgressTrial.Flip.Change) -> Int { egress.groups(change).reduce(0) { $0 + $1.flip.lines } }
    Terminal.errorLine(
      "\(egress.lines) lines of \(egress.attempts) attempts' ledgers\(egress.isCut ? ", and there are more" : ""); "
        + "\(count(.denied)) would have been denied, \(count(.allowed)) allowed, of \(count(.unknown)) it cannot be told"
    )
    var table = Table(["NOW", "LINES", "GRANT", "RULE", "FIRST", "LAST", "LIKE", "OF JOB"])
    for change in EgressTrial.Flip.Change.allCases {
      for group in egress.groups(change) {
        let flip = group.flip
        table.add([
          change == .unknown ? "?" : change.rawValue, "\(flip.lines)", flip.grant ?? "-", flip.rule, flip.first,
          flip.last,
          flip.request, group.job,
        ])
      }
    }
    if !egress.groups.isEmpty { for line in table.lines { Terminal.line(line) } }
  }
}
