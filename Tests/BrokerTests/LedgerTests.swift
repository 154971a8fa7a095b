import Destinations
import Foundation
import Jobs
import Policies
import Testing

@testable import Broker

@Suite struct LedgerTests {
  private func chain(_ count: Int) -> (lines: [String], summary: LedgerSummary) {
    var ledger = Ledger(for: House.attempt, most: 1_000)
    let lines = (0..<count).compactMap { index in
      ledger.deny("rule \(index)", .init(grant: "g", path: "/\"\\", sent: Int64(index)), at: "2026-01-01T00:00:00Z")
    }
    return (
      lines.map(\.json), LedgerSummary(count: ledger.count, head: ledger.head, unrecorded: ledger.unrecorded)
    )
  }

  @Test func aChainThatWasWrittenIsVerified() throws {
    let (lines, summary) = chain(20)
    #expect(try LedgerSummary.verifying(lines, of: House.attempt, expected: summary) == summary)
    #expect(try LedgerSummary.verifying([], of: House.attempt).count == 0)
  }

  @Test func aLineHasAllMembersInCanonicalOrder() throws {
    let line = try #require(chain(1).lines.first)
    let names = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]).keys.sorted()
    #expect(
      names == [
        "address", "at", "decision", "endpoint", "grant", "hash", "method", "path", "previous", "received", "rule",
        "sent", "seq", "status",
      ])
    #expect(line.hasPrefix("{\"address\":null,\"at\":\"2026-01-01T00:00:00Z\",\"decision\":\"denied\""))
  }

  @Test("a line is the canonical text of its members, whatever they hold")
  func canonical() throws {
    let odd = ["", "a", "\"", "\\", "\u{1}\n\t\u{7f}", "ä€😀", "\u{2028}", "a\"b\\c"]
    var ledger = Ledger(for: House.attempt, most: 1_000)
    for (index, text) in odd.enumerated() {
      let subject = LedgerLine.Subject(
        grant: text, endpoint: text, address: index % 2 == 0 ? nil : text, method: text, path: text,
        status: index % 2 == 0 ? 403 : nil, sent: Int64(index) << 40, received: (1 << 53) - 1)
      let denied = ledger.deny(text, subject, at: text)
      let line = try #require(denied)
      let value = try JSONDecoder().decode(JSONValue.self, from: Data(line.json.utf8))
      try #expect(CanonicalJSON.text(value) == line.json)
      #expect(value.object?["path"] == .string(text) && value.object?["seq"] == .integer(Int64(index + 1)))
    }
  }

  @Test("a chain that was touched is refused at the line", arguments: 0..<6)
  func touched(way: Int) throws {
    var (lines, summary) = chain(5)
    var line: Int? = 3
    var attempt = House.attempt
    switch way {
    case 0: lines[2] = lines[2].replacingOccurrences(of: "rule 2", with: "rule 9")
    case 1: lines.remove(at: 2)
    case 2: lines.swapAt(2, 3)
    case 3: lines[2] = lines[2].replacingOccurrences(of: "{\"address", with: "{ \"address")
    case 4:
      lines.removeLast()
      line = nil
    default:
      attempt = AttemptAddress(job: attempt.job, attempt: 3, token: 8, tenant: attempt.tenant)
      line = 1
    }
    do throws(LedgerProblem) {
      _ = try LedgerSummary.verifying(lines, of: attempt, expected: summary)
      Issue.record("it was verified")
    } catch {
      #expect(error.line == line, "\(error)")
    }
  }

  @Test func aFullLedgerKeepsTheEndsOfWhatItAllowed() {
    var ledger = Ledger(for: House.attempt, most: 6)
    #expect(ledger.allow("a", .init(), at: "t") != nil && ledger.allow("b", .init(), at: "t") != nil)
    // Two ends and the last line are kept free; one line is left, too little for what would end.
    #expect(ledger.deny("c", .init(), at: "t") != nil)
    #expect(ledger.allow("d", .init(), at: "t") == nil && ledger.isFull)
    #expect(ledger.lastLine(at: "t") == nil)
    #expect(ledger.close("a", .init(), at: "t").seq == 4)
    #expect(ledger.deny("e", .init(), at: "t") == nil && ledger.lastLine(at: "t") == nil)
    #expect(ledger.close("b", .init(), at: "t").seq == 5)
    #expect(ledger.lastLine(at: "t")?.rule == Ledger.fullRule)
    #expect(ledger.lastLine(at: "t") == nil && ledger.count == 6 && ledger.unrecorded == 2)
  }

  @Test(
    "a line is one that the database takes, whatever is in it",
    arguments: ["a", "\"", "\u{1}", "\u{7f}", "😀", "e\u{301}", "[redacted:index]"])
  func worstLine(text: String) throws {
    let worst = String(repeating: text, count: 20_000)
    var ledger = Ledger(for: House.attempt, most: 1_000)
    let subject = LedgerLine.Subject(
      grant: worst, endpoint: worst, address: worst, method: worst, path: worst, status: .max, sent: .max,
      received: .max)
    let at = "2026-01-01T00:00:00.000Z"
    let (allowed, denied) = (ledger.allow(worst, subject, at: at), ledger.deny(worst, subject, at: at))
    let lines = [try #require(allowed), try #require(denied), ledger.close(worst, subject, at: at)]
    for line in lines {
      #expect(line.json.utf8.count <= LedgerLine.mostBytes)
      #expect(line.subject.method?.contains("...sha256:") == true && line.rule.contains("...sha256:"))
      #expect(line.subject.path.map(LedgerLine.isShortened) == true)
    }
    #expect(lines.map { $0.json.utf8.count }.min() ?? 0 > LedgerLine.mostBytes / 2, "the parts are used")
  }

  @Test func aLongPathIsCutAndNamedByItsDigest() {
    let path = "/" + String(repeating: "a", count: 5_000)
    let short = LedgerLine.Subject.shortened(path)
    #expect(short.hasPrefix("/aaa") && short.contains("...sha256:") && short.utf8.count < 1_200)
    #expect(LedgerLine.Subject.shortened("/a") == "/a")
  }
}
