import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@Suite("Journeys: the README's first jobs are the files beside it, and run")
struct ReadmeJourneys {
  private func example(_ name: String) throws -> (path: String, text: String) {
    let url = TestKit.repository.appending(path: "ops/examples/first-jobs/\(name)")
    return (url.path, try String(contentsOf: url, encoding: .utf8))
  }

  @Test("the README shows the files as they are", arguments: ["hello.py", "hello.sh", "hello.sql"])
  func verbatim(name: String) throws {
    let readme = try String(contentsOf: TestKit.repository.appending(path: "README.md"), encoding: .utf8)
    #expect(readme.contains(try example(name).text))
  }

  @Test("Python")
  func python() async throws {
    let tool = try await House.shared.value.tool
    let (record, status) = try await tool.record(of: [example("hello.py").path])
    #expect(status == 0)
    #expect(record["result"]?["mean"] == .number(1.0718))
    #expect(record["artifacts"]?.array?.count == 1)
  }

  @Test("bash")
  func bash() async throws {
    let tool = try await House.shared.value.tool
    let answer = try await tool.run(["run", example("hello.sh").path])
    #expect(answer.status == 0)
    #expect(answer.text == "I am job, attempt 1, in /job\n")
  }

  @Test("SQL, by libpq and nothing of Cordon's on the producer's side")
  func sql() async throws {
    let tool = try await House.shared.value.tool
    let pool = Pool(ConnectionSettings(tool.url), maximum: 1)
    let rows = try await pool.query(Statement(name: "first_job", sql: example("hello.sql").text), [])
    await pool.close()
    let job: String = try #require(rows.first).get("job")
    let record = try await tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"))
    #expect(try await tool.run(["logs", job]).text == "hello ['--from', 'SQL']\n")
  }
}
