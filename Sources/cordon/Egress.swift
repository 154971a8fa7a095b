import ArgumentParser
import Broker
import Foundation
import Jobs
import Store

struct Egress: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a job reached: the ledger of an attempt, and whether it is whole.",
    discussion: """
      Each line is a decision of the broker, chained to the one before it. The chain is checked whenever it is shown, and its
      count and last digest are compared with the attempt's record. Exit code 1: it is not what was written.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "The job's id.")
  var job: String
  @Option(help: "An attempt; default: the newest.")
  var attempt: Int?
  @Flag(help: "The lines as they are chained, one JSON object each.")
  var json = false

  func run() async throws {
    let id = try jobID(job)
    let (record, ledger) = try await database.withStore { store in
      // Asked first, so that an unknown job is an error and not an empty ledger.
      (try parseRecord(try await store.record(id, attempt: attempt)), try await store.egress(id, attempt: attempt))
    }
    let lines = ledger?.lines ?? []
    if json {
      for line in lines { Terminal.line(line) }
    } else {
      try show(lines)
    }
    try check(lines, of: id, ledger, record)
  }

  private func show(_ lines: [String]) throws {
    var table = Table(["at", "decision", "grant", "endpoint", "request", "status", "sent", "received", "rule"])
    for line in lines {
      let value = try JSONDecoder().decode(JSONValue.self, from: Data(line.utf8))
      func text(_ member: String) -> String {
        switch value[member] {
        case .string(let text)?: text
        case .integer(let number)?: "\(number)"
        default: ""
        }
      }
      let request = [text("method"), text("path")].filter { !$0.isEmpty }.joined(separator: " ")
      table.add([
        text("at"), text("decision"), text("grant"), text("endpoint"), request, text("status"), text("sent"),
        text("received"), text("rule"),
      ])
    }
    for line in table.lines { Terminal.line(line) }
  }

  private func check(
    _ lines: [String], of id: JobID, _ ledger: Store.EgressLedger?, _ record: JSONValue
  ) throws {
    let facts = record["attribution"]?["isolation"]?["egress"]
    guard let ledger else {
      // What the record counts and nobody has is missing.
      if let count = facts?["lines"]?.integer, count > 0 {
        throw Failure(.job, "the ledger of \(id): none of its \(count) lines is there")
      }
      return
    }
    let address = AttemptAddress(
      job: id.description, attempt: ledger.attempt, token: ledger.token, tenant: record["tenant"]?.string ?? "")
    // While it runs, and where its worker died, the record does not say yet how many there are.
    let expected = facts?["head"]?.string.flatMap { Digest($0) }.map {
      LedgerSummary(
        count: facts?["lines"]?.integer ?? 0, head: $0, unrecorded: facts?["unrecorded"]?.integer ?? 0)
    }
    do {
      let found = try LedgerSummary.verifying(lines, of: address, expected: expected)
      let state = expected == nil ? "so far" : "whole"
      if !json { Terminal.errorLine("\(found.count) lines, \(state), head \(found.head)") }
    } catch {
      throw Failure(.job, "the ledger of \(id): \(error)")
    }
  }
}
