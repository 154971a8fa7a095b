import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journey: a policy for a queue", .serialized)
struct PolicyJourney {
  private let document = """
    # Small things only.
    version: 1
    ceilings:
      memory: 64MiB
      wall: 10s
    runtimes: [bash]
    """

  @Test("a document is judged, bound, explained, and taken away again")
  func bound() async throws {
    let tool = try await House.shared.value.tool
    let queue = "small-\(UUID().uuidString.prefix(8))"
    #expect(try await tool.run(["queue", "add", queue]).status == 0)
    let text = Array(document.utf8)
    let checked = try await tool.run(["policy", "check", "--narrowing", "-"], stdin: text)
    #expect(checked.status == 0, "\(checked.stderr)")
    let digest = checked.text.split(separator: "\n").joined()
    let bound = try await tool.run(["policy", "bind", "--queue", queue, "-"], stdin: text)
    #expect(bound.status == 0 && bound.text == "\(digest)\n", "\(bound.stderr)")

    let explained = try await tool.run(["policy", "explain", "--queue", queue])
    #expect(explained.status == 0, "\(explained.stderr)")
    let lines = explained.text.split(separator: "\n")
    let memory = try #require(lines.first { $0.hasPrefix("ceilings.memory ") })
    // Decided by the queue's document, on the line where it was written.
    #expect(memory.contains("64MiB") && memory.contains("queue \(queue)") && memory.hasSuffix(" 4"), "\(memory)")
    #expect(lines.first { $0.hasPrefix("ceilings.pids ") }?.contains("ceiling") == true)

    let request = Array(#"{"runtime": "bash", "code": "", "limits": {"memory": "1GiB"}}"#.utf8)
    let why = try await tool.run(["policy", "explain", "--queue", queue, "--specification", "-"], stdin: request)
    #expect(why.status == 4 && why.stderr.contains("line 4 of \(digest) (queue \(queue))"), "\(why.stderr)")
    #expect(why.stderr.split(separator: "\n").count == 1)
    let refused = try await tool.run(["enqueue", "--queue", queue, "--specification", "-"], stdin: request)
    #expect(refused.status == 4 && refused.stderr.contains("64MiB"), "\(refused.stderr)")
    let other = try await tool.run(["enqueue", "--queue", queue, "--", "/usr/bin/true"])
    #expect(other.status == 4 && other.stderr.contains("exec"), "\(other.stderr)")

    let shown = try await tool.run(["policy", "show", "--json", "--queue", queue])
    #expect(try shown.json()["document"]?["ceilings"]?["wall"] == .string("10s"), "\(shown.stderr)")
    let source = try await tool.run(["policy", "show", "--digest", digest, "--source"])
    #expect(source.stdout == text, "\(source.stderr)")
    let list = try await tool.run(["policy", "list", "--json"]).json().array ?? []
    #expect(list.contains { $0["scope"] == .string("queue \(queue)") && $0["policy"] == .string(digest) })

    #expect(try await tool.run(["policy", "unbind", "--queue", queue]).status == 0)
    #expect(try await tool.run(["policy", "unbind", "--queue", queue]).status == 2)
    #expect(try await tool.run(["enqueue", "--queue", queue, "--specification", "-"], stdin: request).status == 0)
    let simulated = try await tool.run(
      ["policy", "simulate", "--json", "--since", "1h", "--queue", queue, "-"], stdin: text)
    #expect(simulated.status == 1, "\(simulated.stderr)")
    #expect(try simulated.json()["would_be_refused"]?.array?.first?["member"] == .string("ceilings.memory"))
  }

  @Test("what is wrong is told with its line, and what allows more is told apart")
  func told() async throws {
    // Neither needs a database.
    let tool = try await House.shared.value.tool
    let wrong = try await tool.run(
      ["policy", "check", "--narrowing", "-"], stdin: Array("version: 1\nceilings:\n  memory: lots\n".utf8))
    #expect(wrong.status == 2 && wrong.stderr.hasPrefix("cordon: line 3: ceilings.memory: "), "\(wrong.stderr)")
    let ambiguous = try await tool.run(
      ["policy", "check", "--narrowing", "-"], stdin: Array("version: 1\nruntimes: no\n".utf8))
    #expect(ambiguous.status == 2 && ambiguous.stderr.contains("line 2: runtimes: "), "\(ambiguous.stderr)")

    let directory = FileManager.default.temporaryDirectory.appending(path: "cordon-policies-\(UUID())")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let (small, large) = (directory.appending(path: "small.yaml").path, directory.appending(path: "large.yaml").path)
    try document.write(toFile: small, atomically: true, encoding: .utf8)
    try document.replacing("64MiB", with: "65MiB").write(toFile: large, atomically: true, encoding: .utf8)
    let wider = try await tool.run(["policy", "diff", "--narrowing", "--json", small, large])
    #expect(wider.status == 1, "\(wider.stderr)")
    let differences = try wider.json().array ?? []
    #expect(differences.map { $0["member"] } == [.string("ceilings.memory")])
    #expect(differences.first?["direction"] == .string("wider"))
    #expect(try await tool.run(["policy", "diff", "--narrowing", large, small]).status == 0)
  }
}
