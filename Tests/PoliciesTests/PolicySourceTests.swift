import Jobs
import Testing

@testable import Policies

@Suite struct PolicySourceTests {
  private func finding(_ text: String) -> PolicyProblem? {
    do {
      _ = try PolicySource(text)
      return nil
    } catch {
      return error
    }
  }

  @Test func yamlAndJSONOfOneDocumentAreOneValue() throws {
    let yaml = try PolicySource(
      """
      # What treasury may do.
      version: 1
      ceilings:
        memory: 512MiB   # more than this has never been needed
        cpus: 1.5
        files: 1000
      runtimes: [bash, "exec"]
      waivers: []
      """)
    let json = try PolicySource(
      """
      {"version": 1,
      \t"ceilings": {"memory": "512MiB", "cpus": 1.5, "files": 1000},
      \t"runtimes": ["bash", "exec"], "waivers": []}
      """)
    #expect(yaml.value == json.value)
    #expect(yaml.value["ceilings"]?["cpus"] == .number(1.5))
    #expect(try CanonicalJSON.digest(yaml.value) == CanonicalJSON.digest(json.value))
  }

  @Test func eachMemberHasItsLine() throws {
    let source = try PolicySource("version: 1\nceilings:\n  memory: 1MiB\n\n  wall: 5m\nruntimes:\n- bash\n- exec\n")
    #expect(source.line(of: "policy") == 1)
    #expect(source.line(of: "ceilings.wall") == 5)
    #expect(source.line(of: "runtimes[1]") == 8)
    // What is not there is where it would be.
    #expect(source.line(of: "ceilings.pids") == 2)
    #expect(source.line(of: "lease.attempts") == 1)
  }

  @Test(arguments: [
    ("version: 1\nversion: 1\n", "version", 1), ("a:\n  b: 1\n  b: 2\n", "b", 2),
    ("{\"a\": 1,\n \"\\u0061\": 2}", "a", 1),
    ("a: 1\n\"a\": 2\n", "a", 1),
  ])
  func whatStandsTwiceIsRefused(text: String, path: String, line: Int) throws {
    let problem = try #require(finding(text))
    #expect(problem.path == path && problem.reason == "is there twice", "\(problem)")
    #expect(problem.line.map { $0 >= line } == true)
  }

  /// Each of these is a truth value, a number, nothing or a time to one reader of YAML and a text to another.
  @Test(arguments: [
    "yes", "No", "on", "OFF", "y", "~", "", "NULL", "True", "0x1F", "0o17", "017", "0b11", "1_000", "+5", ".5", "5.",
    "1e3_",
    ".inf", "-.Inf", ".NaN", "1_0.5", "-_1",
  ])
  func ambiguousTextsAreRefused(text: String) throws {
    // `1e3_` is a text to everybody.
    guard text != "1e3_" else {
      #expect(try PolicySource("a: \(text)").value == .object(["a": .string(text)]))
      return
    }
    let problem = try #require(finding("x: 0\na: \(text)\n"), "\(text)")
    #expect(problem.path == "a" && problem.line == 2 && problem.reason.contains("in quotes"))
    #expect(try PolicySource("a: \"\(text)\"").value == .object(["a": .string(text)]))
  }

  @Test(arguments: [
    ("a: &x [1]\nb: *x\n", "anchor"), ("a: !!str 5\n", "tag"), ("a: !thing {}\n", "tag"), ("<<: {a: 1}\n", "name"),
    ("? [a]\n: 1\n", "name"), ("a: *nothing\n", "neither"), ("a: [1\n", "neither"), ("a: 1\n---\nb: 2\n", "neither"),
    ("", "empty"), ("a: \"\\0\"\n", "u0000"), ("a: 1e999\n", "float"),
  ])
  func whatYAMLHasBeyondJSONIsRefused(text: String, word: String) throws {
    let problem = try #require(finding(text), "\(text)")
    #expect(problem.reason.contains(word), "\(problem)")
    #expect(!problem.description.contains("\n"))
  }

  @Test(arguments: [
    String(repeating: "[", count: 60_000), String(repeating: "- ", count: 30_000) + "a",
    String(repeating: "{\"a\":", count: 10_000) + "1" + String(repeating: "}", count: 10_000),
    String(repeating: "a: ", count: 2) + "\n", String(repeating: "[", count: 40) + String(repeating: "]", count: 40),
    String(repeating: " ", count: 70_000) + "a: 1",
  ])
  func nothingDeepOrLongIsRead(text: String) throws {
    #expect(finding(text) != nil)
  }
}
