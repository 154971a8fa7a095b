import Jobs
import Testing

@testable import Policies

@Suite struct PolicyDocumentTests {
  private func finding(_ text: String, as kind: PolicyDocument.Kind = .narrowing) -> PolicyProblem? {
    do {
      _ = try PolicyDocument(PolicySource(text), as: kind)
      return nil
    } catch {
      return error
    }
  }

  @Test(arguments: [
    ("version: 2", "version", 1), ("version: \"1\"", "version", 1), ("runtimes: [bash]", "version", 1),
    ("version: 1\nruntimes: bash", "runtimes", 2), ("version: 1\nruntimes:\n- bash\n- perl", "runtimes[1]", 4),
    ("version: 1\nruntimes: [bash, bash]", "runtimes[1]", 2), ("version: 1\nnetwork: {}", "network", 2),
    ("version: 1\nlease: {attempts: 1, margin: 5m}", "lease", 2),
    ("version: 1\nceilings:\n  memory: 5", "", 0), ("version: 1\nceilings:\n  memory: 5parsecs", "ceilings.memory", 3),
    ("version: 1\nceilings:\n  wall: 5", "ceilings.wall", 3), ("version: 1\nceilings:\n  cpus: 0", "ceilings.cpus", 3),
    ("version: 1\nceilings:\n  cpus: 1.5\n  pids: 1.5", "ceilings.pids", 4),
    ("version: 1\nceilings: {memory: 1MiB}\ndefaults: {memory: 2MiB}", "defaults.memory", 3),
    ("version: 1\nceilings: {heap: 1MiB}", "ceilings.heap", 2), ("version: 1\nceilings: []", "ceilings", 2),
    ("version: 1\nwaivers: [seccomp]", "waivers[0]", 2), ("version: 1\nwaivers: null", "waivers", 2),
    ("version: 1\nwarm: {python3: {mode: fork}}", "warm.python3.mode", 2),
    ("version: 1\nwarm: {python3: {mode: zygote, imports: [\"a b\"]}}", "warm.python3.imports[0]", 2),
    ("version: 1\naudiences: [a, \"b c\"]", "audiences[1]", 2), ("version: 1\naudiences: a", "audiences", 2),
    ("version: 1\ncredentials:\n- index\n- Index", "credentials[1]", 4),
    ("version: 1\nfilesystem:\n  inputs: [text, mail]", "filesystem.inputs[1]", 3),
    ("version: 1\nfilesystem:\n  tmp: rw", "filesystem.tmp", 3),
    ("version: 1\nfilesystem: {root: rw}", "filesystem.root", 2),
    ("version: 1\nretention:\n  jobs: 23h", "retention.jobs", 3),
    ("version: 1\nretention:\n  logs: 40000d", "retention.logs", 3),
    ("version: 1\nretention: {artifacts: 1d}", "retention.artifacts", 2),
    ("version: 1\noutputs: {on: tape}", "outputs.on", 2), ("[]", "policy", 1), ("just words", "policy", 1),
  ])
  func theFirstFaultIsToldWithItsLine(text: String, path: String, line: Int) throws {
    guard !path.isEmpty else {
      #expect(finding(text) == nil)
      return
    }
    let problem = try #require(finding(text), "\(text)")
    #expect(problem.path == path && problem.line == line, "\(problem)")
    #expect(!problem.description.contains("\n"))
  }

  @Test func aCeilingSaysEverything() throws {
    #expect(finding("version: 1", as: .ceiling)?.path == "ceilings")
    #expect(finding("version: 1", as: .narrowing) == nil)
    // Its credentials are those that its grants name; a list beside them could only disagree.
    #expect(finding("version: 1\ncredentials: []", as: .ceiling)?.path == "credentials")
  }

  @Test func differencesSayWhoAllowsMore() throws {
    let old = try PolicySource("ceilings: {memory: 1GiB, pids: 64, wall: 1h}\nruntimes: [bash, exec]\nwaivers: [uids]")
    let new = try PolicySource("ceilings: {memory: 1024MiB, pids: 32, wall: 2h}\nruntimes: [exec]\noutputs: {on: disk}")
    let found = PolicyDifference.between(old.value, new.value, isWhole: true)
    #expect(
      found.map { "\($0.path) \($0.direction.rawValue)" } == [
        "ceilings.memory other", "ceilings.pids narrower", "ceilings.wall wider", "outputs.on other",
        "runtimes narrower", "waivers narrower",
      ])
    // In what narrows another, an absent list is no list.
    let parts = PolicyDifference.between(old.value, new.value, isWhole: false)
    #expect(parts.first { $0.path == "waivers" }?.direction == .wider)
  }

  @Test func lessIsNotSpelledLikeMore() throws {
    let (loose, tight) = (
      try PolicySource("audiences: [a, b]\nretention: {jobs: 30d}"),
      try PolicySource(
        "audiences: [a]\nfilesystem: {inputs: [text], tmp: noexec}\nretention: {jobs: 60d, logs: 1d}")
    )
    for (first, second, direction) in [(loose, tight, "narrower"), (tight, loose, "wider")] {
      #expect(
        PolicyDifference.between(first.value, second.value, isWhole: true).map { "\($0.path) \($0.direction.rawValue)" }
          == ["audiences", "filesystem.inputs", "filesystem.tmp", "retention.jobs", "retention.logs"].map {
            "\($0) \(direction)"
          })
    }
    let empty = try PolicySource("filesystem: {}\nretention: {}")
    #expect(
      PolicyDifference.between(try PolicySource("{}").value, empty.value, isWhole: true).allSatisfy {
        $0.direction == .other
      })
  }

  @Test func aGrantMoreIsMore() throws {
    func directions(_ before: String, _ after: String, isWhole: Bool = true) throws -> [String] {
      PolicyDifference.between(
        try PolicySource("grants: \(before)").value, try PolicySource("grants: \(after)").value, isWhole: isWhole
      ).map { "\($0.path) \($0.direction.rawValue)" }
    }
    let index = #"{host: a.b, port: 443, mode: http, allow: ["GET /a", "GET /b"]}"#
    let other = "{host: a.c, port: 1, mode: tcp}"
    #expect(
      try directions("{x: \(index)}", "{x: \(index), y: \(other)}")
        == ["grants.y.host wider", "grants.y.mode wider", "grants.y.port wider"])
    #expect(try directions("{x: \(index), y: \(other)}", "{x: \(index)}").allSatisfy { $0.hasSuffix(" narrower") })
    #expect(try directions("{}", "{y: \(other)}").dropFirst().allSatisfy { $0.hasSuffix(" wider") })
    let less = #"{host: a.b, port: 443, mode: http, allow: ["GET /a"], most: {sent: 2MiB, requests: 10}}"#
    #expect(
      try directions("{x: \(index)}", "{x: \(less)}")
        == ["grants.x.allow narrower", "grants.x.most.requests narrower", "grants.x.most.sent wider"])
    let elsewhere =
      #"{host: a.b, port: 444, mode: http, allow: ["GET /c"], allow_private: [10.0.0.0/8], credential: c}"#
    #expect(
      try directions("{x: \(index)}", "{x: \(elsewhere)}")
        == [
          "grants.x.allow other", "grants.x.allow_private wider", "grants.x.credential other", "grants.x.port other",
        ])
    // In what narrows another, what is not said is left as it is.
    #expect(
      try directions("{x: {}}", #"{x: {allow: ["GET /a"], most: {sent: 2MiB}}}"#, isWhole: false)
        == ["grants.x other", "grants.x.allow narrower", "grants.x.most.sent narrower"])
    #expect(try directions("{x: {}}", "{x: {}, y: {}}", isWhole: false) == ["grants.y wider"])
    let none = PolicyDifference.between(
      try PolicySource("version: 1").value, try PolicySource("version: 1\ngrants: {x: {}}").value, isWhole: false)
    #expect(none.map(\.direction) == [.narrower])
  }
}
