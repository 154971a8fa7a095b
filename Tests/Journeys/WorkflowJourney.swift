import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journey: a workflow", .serialized)
struct WorkflowJourney {
  @Test("what parents made is what their child reads, and every attempt says so")
  func results() async throws {
    let tool = try await House.shared.value.tool
    func enqueue(_ arguments: [String]) async throws -> String {
      let answer = try await tool.run(["enqueue"] + arguments)
      #expect(answer.status == 0, "\(answer)")
      return answer.text.trimmingCharacters(in: .whitespacesAndNewlines)
    }
    let first = try await enqueue([
      "--runtime", "bash", "--code",
      #"sleep 1; echo rates > $CORDON_OUTPUT/rates.txt; echo '{"mean": 1.07}' > $CORDON_RESULT"#,
    ])
    let (record, status) = try await tool.record(of: [
      "--after", first, "--artifact", "rates.txt=\(first)/rates.txt", "--result", "prior.json=\(first)",
      "--runtime", "bash", "--code", "cat $CORDON_INPUT/rates.txt $CORDON_INPUT/prior.json",
    ])
    #expect(status == 0, "\(record)")
    let logs = try await tool.run(["logs", record["job"]?.string ?? ""])
    #expect(logs.text == "rates\n{\"mean\": 1.07}")
    let names = record["attribution"]?["inputs"]?.array?.compactMap { $0["name"]?.string }
    #expect(names == ["prior.json", "rates.txt"])

    let (refused, _) = try await tool.record(of: [
      "--artifact", "x=\(first)/other.txt", "--runtime", "bash", "--code", "true",
    ])
    #expect(refused["outcome"] == .string("refused"))
    #expect(refused["reason"]?.string?.contains("published no other.txt") == true)
  }
}
