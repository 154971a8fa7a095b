import Foundation
import Jobs
import TestKit

/// A job with grants, and what it left behind.
extension House {
  /// Puts these grants into the policy that is in force, in place of those that it has.
  nonisolated func grant(_ grants: String) async throws { try await put("grants", grants) }

  /// Puts a member into the policy that is in force, in place of what it has.
  nonisolated func put(_ member: String, _ value: String) async throws {
    guard var members = try await tool.run(["policy", "show", "--json"]).json()["document"]?.object else {
      throw Problem("no policy")
    }
    members[member] = try JSONDecoder().decode(JSONValue.self, from: Data(value.utf8))
    let set = try await Tool(url: superuser).run(
      ["policy", "set", "-"], stdin: Array(try JSONEncoder().encode(JSONValue.object(members))))
    guard set.status == 0 else { throw Problem(set.stderr) }
  }

  nonisolated func enqueue(_ script: String, grants: [String], options: [String] = []) async throws -> String {
    try await tool.enqueue(grants.flatMap { ["--grant", $0] } + options + ["--runtime", "bash", "--code", script])
  }

  /// Waits for the end of a job and returns its record, what it printed, and its ledger.
  nonisolated func end(
    of job: String, limit: Duration = .seconds(30)
  ) async throws -> (record: JSONValue, text: String, ledger: [JSONValue]) {
    let record = try await tool.wait(for: job, limit: limit) { $0["state"] == .string("finished") }
    return (record, try await tool.run(["logs", job]).text, try await ledger(job))
  }

  nonisolated func run(
    _ script: String, grants: [String], limit: Duration = .seconds(30)
  ) async throws -> (record: JSONValue, text: String, ledger: [JSONValue]) {
    try await end(of: try await enqueue(script, grants: grants), limit: limit)
  }

  /// Of an attempt, or of the newest; whole and unchanged, or it is a `Problem`.
  nonisolated func ledger(_ job: String, attempt: Int? = nil) async throws -> [JSONValue] {
    let which = attempt.map { ["--attempt", String($0)] } ?? []
    let answer = try await tool.run(["egress", "--json"] + which + [job])
    guard answer.status == 0 else { throw Problem(answer.stderr) }
    return try answer.text.split(separator: "\n").map {
      try JSONDecoder().decode(JSONValue.self, from: Data($0.utf8))
    }
  }
}
