import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journey: outputs larger than memory", .serialized)
struct DiskOutputJourney {
  @Test("a policy puts outputs on a disk; a job writes more than its memory limit, and the record says where")
  func large() async throws {
    let house = try await House(slots: 1)
    let tool = house.tool
    let bash = [
      "--memory", "64MiB", "--output-limit", "256MiB", "--runtime", "bash", "--code",
      "head -c 200M /dev/urandom | tee $CORDON_OUTPUT/large | sha256sum",
    ]
    let (small, _) = try await tool.record(of: bash)
    #expect(small["outcome"] == .string("out_of_memory"), "in memory it does not fit")
    #expect(small["attribution"]?["isolation"]?["outputs"] == .string("memory"))

    let policy = try await tool.run(["policy", "show"])
    let wrong = policy.text.replacing("\"version\" : 1", with: "\"version\": 1, \"outputs\": {\"on\": \"tape\"}")
    let refused = try await tool.run(["policy", "set", "-"], stdin: Array(wrong.utf8))
    #expect(refused.status != 0 && refused.stderr.contains("outputs.on: "), "\(refused.stderr)")
    let disk = policy.text.replacing("\"version\" : 1", with: "\"version\": 1, \"outputs\": {\"on\": \"disk\"}")
    let set = try await tool.run(["policy", "set", "-"], stdin: Array(disk.utf8))
    #expect(set.status == 0, "\(set.stderr)")
    #expect(try await tool.run(["policy", "show"]).text.contains("\"on\" : \"disk\""))

    let (large, status) = try await tool.record(of: bash)
    #expect(status == 0 && large["outcome"] == .string("succeeded"), "\(large)")
    #expect(large["attribution"]?["isolation"]?["outputs"] == .string("disk"))
    let artifact = large["artifacts"]?.array?.first
    #expect(artifact?["path"] == .string("large") && artifact?["bytes"] == .integer(200 << 20))
    let logs = try await tool.run(["logs", large["job"]?.string ?? ""])
    let digest = try #require(artifact?["sha256"]?.string).replacing("sha256:", with: "")
    #expect(logs.text.hasPrefix(digest), "what the job wrote is what was published")
    let published = try #require(large["published"]?.string)
    #expect(FileManager.default.fileExists(atPath: published + "/large"))
    #expect(try await tool.run(["show", large["job"]?.string ?? ""]).text.contains("disk"))

    let (over, _) = try await tool.record(of: [
      "--output-limit", "8MiB", "--runtime", "bash", "--code", "head -c 32M /dev/zero > $CORDON_OUTPUT/large; exit 0",
    ])
    #expect(over["outcome"] == .string("output_limit"))
    let workers = try await tool.run(["workers", "--json"]).json().array ?? []
    #expect(workers.first?["offers"] == .array([.string("outputs.disk")]), "\(workers)")
    try await house.close()
  }
}
