import Crypto
import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journey: the reconciliation on real input")
struct ReconciliationJourney {
  /// Counted by another program than the job, see the issue of the data's import.
  static let independent = (agree: Int64(854), differ: Int64(136), incomplete: Int64(3))

  @Test("the counts come from the job's result, the artifacts carry the digests of the record")
  func reconcile() async throws {
    let tool = try await House.shared.value.tool
    let example = TestKit.repository.appending(path: "ops/examples/reconciliation").path
    let (record, status) = try await tool.record(of: [
      "--input", "monthly.csv=\(example)/fx-monthly.csv", "--input", "annual.csv=\(example)/fx-annual.csv",
      "--param", "tolerance=0.001", "\(example)/reconcile.py",
    ])
    #expect(status == 0)
    let result = record["result"]
    #expect(result?["agree"] == .integer(Self.independent.agree))
    #expect(result?["differ"] == .integer(Self.independent.differ))
    #expect(result?["incomplete"] == .integer(Self.independent.incomplete))

    let inputs = record["attribution"]?["inputs"]?.array ?? []
    #expect(inputs.compactMap { $0["name"]?.string }.sorted() == ["annual.csv", "monthly.csv"])
    let monthly = try Data(contentsOf: URL(fileURLWithPath: example + "/fx-monthly.csv"))
    #expect(
      inputs.first { $0["name"] == .string("monthly.csv") }?["sha256"]
        == .string(Digest(sha256: SHA256.hash(data: monthly)).description))

    let names = record["artifacts"]?.array?.compactMap { $0["path"]?.string }.sorted()
    #expect(names == ["breaks.csv", "report.txt", "summary.json"])
    try await export(record, with: tool)
  }

  private func export(_ record: JSONValue, with tool: Tool) async throws {
    let target = FileManager.default.temporaryDirectory.appending(path: "cordon-export-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: target) }
    let answer = try await tool.run(["artifacts", record["job"]?.string ?? "", "--to", target.path])
    #expect(answer.status == 0, "\(answer.stderr)")
    for artifact in record["artifacts"]?.array ?? [] {
      let bytes = try Data(contentsOf: target.appending(path: artifact["path"]?.string ?? ""))
      #expect(artifact["sha256"] == .string(Digest(sha256: SHA256.hash(data: bytes)).description))
    }
    // A second export must not overwrite what is there.
    let again = try await tool.run(["artifacts", record["job"]?.string ?? "", "--to", target.path])
    #expect(again.status == 2)
  }
}
