import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journeys: the examples of the queue's page run")
struct QueueExampleJourney {
  private static let directory = repository.appending(path: "ops/examples/queue").path

  private func run(_ program: String, _ arguments: [String], tool: Tool) async throws -> (status: Int32, text: String) {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.environment = [
      "CORDON_DATABASE_URL": tool.url, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
      "LD_LIBRARY_PATH": ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] ?? "",
    ]
    process.standardOutput = output
    try process.run()
    let bytes = try await Task.detached { try output.fileHandleForReading.readToEnd() ?? Data() }.value
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: bytes, as: UTF8.self))
  }

  @Test("the page shows the files as they are", arguments: ["producer.sql", "producer.py", "Producer.swift"])
  func verbatim(name: String) throws {
    let page = try String(contentsOf: repository.appending(path: "ops/docs/queue.md"), encoding: .utf8)
    #expect(page.contains(try String(contentsOfFile: Self.directory + "/" + name, encoding: .utf8)))
  }

  @Test("psql: a workflow in one transaction")
  func sql() async throws {
    let tool = try await House.shared.value.tool
    let answer = try await run(
      "/usr/bin/psql",
      [tool.url, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", Self.directory + "/producer.sql"],
      tool: tool)
    #expect(answer.status == 0)
    let job = try #require(answer.text.split(separator: "\n").last)
    let record = try await tool.wait(for: String(job)) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"))
    let dead = try await tool.run(["dead", "list", "--json"])
    #expect(try dead.json().array?.contains { $0["reason"]?.string?.contains("rows.txt") == true } == false)
  }

  @Test("Python")
  func python() async throws {
    let tool = try await House.shared.value.tool
    let answer = try await run("/usr/bin/python3", [Self.directory + "/producer.py"], tool: tool)
    #expect(answer.status == 0 && answer.text.hasSuffix(" succeeded {'sum': 45}\n"), "\(answer)")
  }

  @Test("Swift")
  func swift() async throws {
    let tool = try await House.shared.value.tool
    let answer = try await run(try buildProduct(named: "ExampleProducer"), [], tool: tool)
    #expect(answer.status == 0 && answer.text.contains(#""answer": 42"#), "\(answer)")
  }
}
