import Foundation
import Jobs
import Testing

// Theory of operation
//
// A case is a program, what must become of it as a job, and a positive control: the same program where the guard is
// absent, which must get through. `Proving` runs cases in rounds on one house, the real `cordon up`, and judges for
// each of them the five things of the list of attacks: the outcome that is stated; one typed final row in PostgreSQL;
// a record that names the attempt; a clean host within five seconds; a neighbour that ran meanwhile, unharmed.
//
// A program says what it met as a JSON object of names and answers, in its result and, where the result itself is
// under attack, in the last line it prints. An answer is `ok` or the name of an errno. What a case does not find
// there has failed: a program that did not run proves nothing.

/// One entry of the list of attacks.
struct AttackCase: Sendable, CustomTestStringConvertible {
  /// As the list names it; a letter follows where one entry takes several programs.
  var id: String
  /// What the program tries.
  var what: String
  var payload: Payload
  /// Arguments of the program.
  var arguments: @Sendable (Place) -> [String] = { _ in [] }
  /// Members of the specification beside the program: `limits`, `inputs`, `env`.
  var asks: [String: JSONValue] = [:]
  /// The place for what the host has to lay out first, undone by the closure that is returned.
  var prepare: @Sendable (Place) throws -> @Sendable () -> Void = { _ in {} }
  /// What must hold of the job.
  var expect: @Sendable (Evidence, inout Verdict) async throws -> Void
  var control: Control
  /// Measures time, so that no other case may run beside it.
  var isAlone = false

  var testDescription: String { "\(id): \(what)" }
}

/// The program of a case.
enum Payload: Sendable {
  /// Behind `observe.py`, which keeps the book of what was met.
  case python(String)
  case bash(String)
  /// Python behind `observe.py` and `reach.py`, which knows the doors of a cell with grants.
  case egress(String)
  /// A file of `Payloads`, by name; Python ones behind `observe.py` as well.
  case file(String)
  /// A command without an interpreter; `arguments` follow.
  case command([String])
}

/// Where the same program gets through.
enum Control: Sendable {
  typealias Check = @Sendable (Evidence, inout Verdict) async throws -> Void

  /// Unconfined in a scratch directory. `wrapper` is a command in front of the program, such as `unshare`; `arguments`
  /// take the place of the case's where those would do harm.
  case host(
    _ user: HostUser = .root, wrapper: [String] = [], arguments: (@Sendable (Place) -> [String])? = nil,
    check: Check)
  /// In a cell that asks for something else.
  case cell(asks: [String: JSONValue] = [:], arguments: (@Sendable (Place) -> [String])? = nil, check: Check)
  /// What the case's own expectation runs, because the control is part of the setting.
  case within
}

enum HostUser: Sendable {
  case root
  /// One that exists nowhere else.
  case ordinary
}

/// Collects what does not hold.
struct Verdict: Sendable {
  private(set) var failures: [String] = []

  mutating func fail(_ text: String) { failures.append(text) }

  mutating func require(_ condition: Bool, _ text: @autoclosure () -> String) {
    if !condition { fail(text()) }
  }

  mutating func outcome(_ evidence: Evidence, _ name: String) {
    require(
      evidence.outcome == name,
      "the outcome is \(evidence.outcome), not \(name): \(evidence.record["reason"]?.string ?? "") \(evidence.stderr)")
  }

  /// The program met one of `answers` at each of `names`.
  mutating func met(_ evidence: Evidence, _ names: [String], _ answers: String...) {
    for name in names {
      let met = evidence.seen[name]?.string ?? "nothing"
      require(answers.contains(met), "\(name) met \(met), not \(answers.joined(separator: " or "))")
    }
  }

  /// Everything the program tried whose name begins so met one of `answers`, and it was tried at least once.
  mutating func metAll(_ evidence: Evidence, prefix: String, _ answers: String...) {
    let names = evidence.seen.keys.filter { $0.hasPrefix(prefix) }.sorted()
    require(!names.isEmpty, "nothing was tried under \(prefix): \(evidence.stderr)")
    for name in names {
      let met = evidence.seen[name]?.string ?? "nothing"
      require(answers.contains(met), "\(name) met \(met), not \(answers.joined(separator: " or "))")
    }
  }

  mutating func equal<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) {
    require(found == expected, "\(what): \(found), not \(expected)")
  }
}

/// What is known of one run, of a job or of its control.
struct Evidence: Sendable {
  /// The record as `cordon.record` has it; of a control on the host only what stands for it.
  var record: JSONValue
  var seen: [String: JSONValue]
  var stdout: String
  var stderr: String
  /// Wait status of a control on the host; nil when it had to be killed.
  var exit: Int32?
  /// Where a control on the host ran.
  var scratch: String = ""
  var place: Place
  /// Where it ran as a job, for cases that take more than one.
  var house: AttackHouse?

  var outcome: String { record["outcome"]?.string ?? "unknown" }
  var job: String { record["job"]?.string ?? "" }
  var uid: UInt32? { (record["attribution"]?["isolation"]?["uid"]?.integer).flatMap { UInt32(exactly: $0) } }
  var published: String? { record["published"]?.string }
  var artifacts: [String] { (record["artifacts"]?.array ?? []).compactMap { $0["path"]?.string }.sorted() }
  var notes: [String] { (record["notes"]?.array ?? []).compactMap(\.string) }
  /// Reason by path.
  var quarantined: [String: String] {
    var found: [String: String] = [:]
    for entry in record["quarantined"]?.array ?? [] {
      if let path = entry["path"]?.string { found[path] = entry["reason"]?.string }
    }
    return found
  }

  /// A number the program noted.
  func number(_ name: String) -> Double? { seen[name]?.double }

  /// The book: the result, or the last line that begins like one.
  static func book(result: JSONValue?, stdout: String) -> [String: JSONValue] {
    if case .object(let members)? = result, !members.isEmpty { return members }
    let lines = stdout.split(separator: "\n").filter { $0.hasPrefix("seen {") }
    guard let line = lines.last,
      case .object(let members)? = try? JSONDecoder().decode(JSONValue.self, from: Data(line.dropFirst(5).utf8))
    else { return [:] }
    return members
  }
}
