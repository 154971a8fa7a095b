import Foundation
import Jobs
import TestKit
import Testing

/// Jobs that reach real services through Cordon, or do not. `TownTests` ask the same services without it.
@Suite("Journey: a job's way to the town's hosts", .serialized)
struct TownJourneys {}

extension Sequence where Element == JSONValue {
  /// Of a ledger, in order.
  var decisions: [String] { map { $0["decision"]?.string ?? "" } }

  /// Why something was refused, in order.
  var denials: [String] { compactMap { $0["decision"] == .string("denied") ? $0["rule"]?.string : nil } }
}

extension TownHouse {
  /// Looks for every secret of the town in all that the house keeps of all its jobs, shows of this one, and has said.
  func expectNoSecret(in record: JSONValue, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let job = try #require(record["job"]?.string)
    var kept = "\(record)" + String(decoding: await house.up.stdout, as: UTF8.self) + (await house.up.stderr)
    for words in [["show", "--json"], ["egress", "--json"], ["egress"], ["logs"]] {
      kept += try await house.tool.run(words + [job]).text
    }
    let dump = try await town.run(["/usr/bin/pg_dump", "--data-only", "--dbname", house.superuser])
    #expect(dump.status == 0 && dump.text.contains(job), "control: \(dump.stderr)", sourceLocation: sourceLocation)
    kept += dump.text
    let ours = store.credentials
    let found = [vault.token, secrets.index, secrets.rotated, secrets.ingest, ours.secret, ours.token].filter {
      kept.contains($0)
    }
    #expect(found.isEmpty, sourceLocation: sourceLocation)
  }

  /// What the trap was sent by a command in a cell that may dial it. The job stays until it is there: what is under way when an
  /// attempt ends is dropped.
  func caught(by command: String) async throws -> (visits: [String], ledger: [JSONValue]) {
    _ = trap.visits()
    let job = try await enqueue("\(command); sleep 60", grants: ["trap"])
    var visits: [String] = []
    try await eventually("the trap is dialled") {
      visits += trap.visits().map { String(decoding: $0, as: UTF8.self) }
      return !visits.isEmpty
    }
    _ = try await house.tool.run(["cancel", job])
    // The last line is the cancellation's.
    return (visits, Array(try await house.end(of: job).ledger.dropLast()))
  }
}
