import Foundation
import Jobs
import Testing

@testable import Store

/// What is written by hand must read as what the types themselves would write.
struct EncodedReportTests {
  private static let digest = Digest(sha256: [UInt8](0..<32))
  private static let isolation = Isolation(
    cgroup: "hybrid", namespaces: ["mnt", "pid"], filter: digest, uid: 100_000, waivers: ["landlock"], outputs: .disk,
    egress: EgressFacts(grants: ["index", "logs"], lines: 3, head: digest, unrecorded: 1))
  private static let hostile = "a \"quoted\" \\ line\n\t\u{01}\u{1F} with \u{7F} é 語 😀 \u{2028} </script>"

  private static let reports: [AttemptReport] = [
    AttemptReport(outcome: .succeeded),
    AttemptReport(outcome: .failed(code: 255), reason: hostile, notes: ["", hostile]),
    AttemptReport(
      outcome: .signaled(signal: 9), stdout: StreamFacts(bytes: .max, truncated: true),
      usage: Usage(wallSeconds: 1e-7, cpuSeconds: 123456.789, memoryPeakBytes: nil, outputBytes: 0)),
    AttemptReport(
      outcome: .succeeded, stderr: StreamFacts(bytes: 1),
      usage: Usage(wallSeconds: 0, cpuSeconds: 1e22, memoryPeakBytes: 4096, outputBytes: .max),
      artifacts: [Artifact(path: hostile, bytes: 7, sha256: digest), Artifact(path: "b/c", bytes: 0, sha256: digest)],
      quarantined: [Quarantined(path: "x\\xFF", reason: "fifo")], published: "/srv/artifacts/a b", code: digest,
      inputs: [InputFacts(name: hostile, sha256: digest, bytes: 3)], isolation: isolation),
  ]

  @Test(arguments: reports) func aReportReadsAsItIs(_ report: AttemptReport) throws {
    let text = EncodedReport(report).report
    #expect(try JSONDecoder().decode(AttemptReport.self, from: Data(text.utf8)) == report)
    // No member more and none less.
    let written = try json(String(decoding: try JSONEncoder().encode(report), as: UTF8.self))
    #expect(try json(text) == written)
  }

  @Test func anAttributionReadsAsItIs() throws {
    for attribution in [
      StartAttribution(),
      StartAttribution(
        code: Self.digest, inputs: [InputFacts(name: "in", sha256: Self.digest, bytes: 0)], isolation: Self.isolation),
    ] {
      let text = EncodedAttribution(attribution).text
      #expect(try JSONDecoder().decode(StartAttribution.self, from: Data(text.utf8)) == attribution)
    }
  }

  /// jsonb cannot hold it.
  @Test func aZeroByteIsReplaced() throws {
    let report = AttemptReport(outcome: .succeeded, reason: "a\0b", notes: ["\0"], published: "/x\0")
    let read = try JSONDecoder().decode(AttemptReport.self, from: Data(EncodedReport(report).report.utf8))
    #expect(read.reason == "a\u{FFFD}b" && read.notes == ["\u{FFFD}"] && read.published == "/x\u{FFFD}")
  }
}
