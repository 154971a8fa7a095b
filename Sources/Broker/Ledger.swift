import Crypto
import FoundationEssentials
import Jobs

/// What an attempt's ledger came to.
public struct LedgerSummary: Sendable, Equatable {
  public let count: Int64
  /// The hash of the last line, or what the first would have been chained to.
  public let head: Jobs.Digest
  /// Refusals that no line was left for.
  public let unrecorded: Int64

  public init(count: Int64, head: Jobs.Digest, unrecorded: Int64) {
    self.count = count
    self.head = head
    self.unrecorded = unrecorded
  }
}

/// Why a text is no ledger of an attempt.
public struct LedgerProblem: Error, Equatable, CustomStringConvertible {
  /// From 1; nil where the ledger as a whole is at fault.
  public let line: Int?
  public let reason: String

  public var description: String { (line.map { "line \($0): " } ?? "") + reason }
}

/// The chain of an attempt's decisions; a value, without I/O.
///
/// It is bounded, since a job that asks without end would fill a disk otherwise. Each thing that was allowed keeps a line free for its
/// end; when no more is free, everything is refused, and the last line says so.
struct Ledger: Sendable {
  private(set) var count: Int64 = 0
  private(set) var head: Jobs.Digest
  private(set) var unrecorded: Int64 = 0
  /// Lines kept free for the ends of what was allowed.
  private var reserved: Int64 = 0
  private(set) var isFull = false
  private var hasSaidSo = false
  let most: Int64

  static let fullRule = "the ledger is full: everything is refused from here on"

  /// - Parameter before: what an earlier session of the attempt came to; this one goes on there.
  init(for attempt: AttemptAddress, most: Int64, after before: LedgerSummary? = nil) {
    precondition(most >= 3, "an allowed thing, its end and the last line")
    self.most = most
    head = before?.head ?? Self.beginning(attempt)
    count = before?.count ?? 0
    unrecorded = before?.unrecorded ?? 0
  }

  /// What the first line is chained to: a chain of another attempt does not fit.
  static func beginning(_ attempt: AttemptAddress) -> Jobs.Digest {
    let text = "cordon egress ledger 1\n\(attempt.job)\n\(attempt.attempt)\n\(attempt.token)\n"
    return Jobs.Digest(sha256: SHA256.hash(data: Data(text.utf8)))
  }

  /// Nil where it is not allowed, because it could not be recorded.
  mutating func allow(_ rule: String, _ subject: LedgerLine.Subject, at: String) -> LedgerLine? {
    guard hasRoom(for: 2) else { return nil }
    reserved += 1
    return line(.allowed, rule, subject, at)
  }

  mutating func deny(_ rule: String, _ subject: LedgerLine.Subject, at: String) -> LedgerLine? {
    guard hasRoom(for: 1) else { return nil }
    return line(.denied, rule, subject, at)
  }

  /// The end of what was allowed.
  mutating func close(_ rule: String, _ subject: LedgerLine.Subject, at: String) -> LedgerLine {
    precondition(reserved > 0, "only what was allowed ends")
    reserved -= 1
    return line(.closed, rule, subject, at)
  }

  /// The last line of a full ledger, once nothing else can come before it.
  mutating func lastLine(at: String) -> LedgerLine? {
    guard isFull, reserved == 0, !hasSaidSo else { return nil }
    hasSaidSo = true
    return line(.denied, Self.fullRule, .init(), at)
  }

  private mutating func hasRoom(for lines: Int64) -> Bool {
    if !isFull, count + reserved + lines < most { return true }
    isFull = true
    unrecorded += 1
    return false
  }

  private mutating func line(
    _ decision: LedgerLine.Decision, _ rule: String, _ subject: LedgerLine.Subject, _ at: String
  ) -> LedgerLine {
    count += 1
    // Bounded here, where every line comes by.
    let line = LedgerLine(
      seq: count, at: at, decision: decision, rule: LedgerLine.shortened(rule, to: LedgerLine.longestRule),
      subject: subject.bounded(), previous: head)
    head = line.hash
    return line
  }
}

extension LedgerSummary {
  /// Verifies an attempt's ledger without anything but its lines.
  ///
  /// - Parameters:
  ///   - lines: as `LedgerLine.json` gives them, from the first.
  ///   - expected: what was recorded elsewhere about it; without it, lines may be missing at the end unnoticed.
  /// - Throws: `LedgerProblem` with the first line that is not what was written.
  public static func verifying(
    _ lines: [String], of attempt: AttemptAddress, expected: LedgerSummary? = nil
  ) throws(LedgerProblem) -> LedgerSummary {
    var head = Ledger.beginning(attempt)
    for (index, text) in lines.enumerated() {
      func problem(_ reason: String) -> LedgerProblem { LedgerProblem(line: index + 1, reason: reason) }
      guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)), var members = value.object
      else { throw problem("is no JSON object") }
      // One text for one line: else a member that stands twice could say two things.
      guard LedgerLine.text(value) == text else { throw problem("is not in canonical form") }
      guard members["seq"] == .integer(Int64(index + 1)) else { throw problem("is not the line with that number") }
      guard members["previous"] == .string(head.description) else {
        throw problem(index == 0 ? "does not begin this attempt's ledger" : "is not chained to the line before it")
      }
      let hash = members.removeValue(forKey: "hash")
      head = LedgerLine.hash(of: members)
      guard hash == .string(head.description) else { throw problem("was changed: its hash is another") }
    }
    let found = LedgerSummary(count: Int64(lines.count), head: head, unrecorded: expected?.unrecorded ?? 0)
    if let expected, expected != found {
      throw LedgerProblem(
        line: nil, reason: "has \(found.count) lines, and \(expected.count) were recorded with its head")
    }
    return found
  }
}
