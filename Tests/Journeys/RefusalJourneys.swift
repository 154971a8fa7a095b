import Foundation
import TestKit
import Testing

@Suite("Journeys: what is wrong is named, in one line, with the right exit code")
struct RefusalJourneys {
  @Test(
    "malformed requests exit with 2",
    arguments: [
      (["run", "--runtime", "perl", "--code", "1"], "perl"),
      (["run", "/no/such/file.py"], "/no/such/file.py"),
      (["run", "notes.txt"], "runtime"),
      (["run"], "nothing to run"),
      (["run", "--timeotu", "5m", "--", "/usr/bin/true"], "--timeotu"),
      (["run", "--timeout", "soon", "--", "/usr/bin/true"], "soon"),
      (["run", "--timeout", "5", "--", "/usr/bin/true"], "--timeout"),
      (["run", "--memory", "12XB", "--", "/usr/bin/true"], "12XB"),
      (["run", "--cpus", "many", "--", "/usr/bin/true"], "many"),
      (["run", "--input", "rates.csv", "--", "/usr/bin/true"], "NAME=PATH"),
      (["run", "--input", "a=/no/such", "--", "/usr/bin/true"], "/no/such"),
      (["run", "--input", "../a=/etc/hostname", "--", "/usr/bin/true"], "../a"),
      (["run", "--env", "CORDON_JOB=x", "--", "/usr/bin/true"], "CORDON_JOB"),
      (["run", "--priority", "77", "--", "/usr/bin/true"], "priority"),
      (["show", "not-an-id"], "not-an-id"),
      (["show", "00000000-0000-7000-8000-000000000000"], "00000000-0000-7000-8000-000000000000"),
      (["cancel", "00000000-0000-7000-8000-000000000000"], "00000000-0000-7000-8000-000000000000"),
      (["jobs", "--state", "odd"], "odd"),
      (["worker", "--lease", "long"], "long"),
      (["worker", "--lease", "500ms"], "--lease"),
      (["enqueue", "--specification", "/usr/bin"], "/usr/bin"),
      (["show", "--attempt", "99999999999", "00000000-0000-7000-8000-000000000000"], "no job"),
      (["jobs", "--state", "a\u{1B}[2Jb"], "\\x1b[2J"),
      (["frobnicate"], "frobnicate"),
      (["enqueue", "--at", "tomorrow", "--", "/usr/bin/true"], "tomorrow"),
    ])
  func usage(arguments: [String], names: String) async throws {
    let tool = try await House.shared.value.tool
    let answer = try await tool.run(arguments)
    #expect(answer.status == 2, "\(answer.stderr)")
    #expect(answer.stderr.contains(names), "\(answer.stderr)")
    #expect(answer.stderr.split(separator: "\n").count == 1, "\(answer.stderr)")
    #expect(answer.stdout.isEmpty)
  }

  @Test(
    "bad documents name the field",
    arguments: [
      ("{", "JSON"), ("[]", "specification"), (#"{"runtime":"bash"}"#, "code"),
      (#"{"runtime":"bash","code":"x","frob":1}"#, "frob"),
      (#"{"runtime":"exec","argv":["a\u0000b"]}"#, "specification"),
      (#"{"runtime":"exec","argv":["/usr/bin/true"],"limits":{"memory":"lots"}}"#, "limits.memory"),
    ])
  func documents(document: String, names: String) async throws {
    let tool = try await House.shared.value.tool
    let answer = try await tool.run(["enqueue", "--specification", "-"], stdin: Array(document.utf8))
    #expect(answer.status == 2, "\(answer.stderr)")
    #expect(answer.stderr.contains(names), "\(answer.stderr)")
    #expect(answer.stderr.split(separator: "\n").count == 1, "\(answer.stderr)")
  }

  @Test(
    "what is not allowed exits with 4",
    arguments: [
      (["run", "--queue", "no-such-queue", "--", "/usr/bin/true"], "no-such-queue"),
      (["run", "--memory", "900GiB", "--", "/usr/bin/true"], "limits.memory"),
      (["run", "--timeout", "300d", "--", "/usr/bin/true"], "limits.wall"),
    ])
  func refused(arguments: [String], names: String) async throws {
    let tool = try await House.shared.value.tool
    let answer = try await tool.run(arguments)
    #expect(answer.status == 4, "\(answer.stderr)")
    #expect(answer.stderr.contains(names), "\(answer.stderr)")
  }

  @Test("an oversized program or input is refused before anything is written")
  func oversize() async throws {
    let tool = try await House.shared.value.tool
    let path = FileManager.default.temporaryDirectory.appending(path: "cordon-big-\(UUID().uuidString).py").path
    _ = FileManager.default.createFile(atPath: path, contents: nil)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try FileHandle(forWritingTo: URL(fileURLWithPath: path)).truncate(atOffset: 65 << 20)
    for arguments in [["run", path], ["run", "--input", "a=\(path)", "--", "/usr/bin/true"]] {
      let answer = try await tool.run(arguments)
      #expect(answer.status == 2)
      #expect(answer.stderr.contains("64 MiB"), "\(answer.stderr)")
    }
  }

  @Test("a database that is away exits with 3")
  func away() async throws {
    let tool = Tool(url: "postgresql:///cordon?host=/nonexistent&connect_timeout=2")
    for arguments in [["run", "--", "/usr/bin/true"], ["jobs"], ["worker", "--data", "/var/tmp/cordon-away"]] {
      let answer = try await tool.run(arguments)
      #expect(answer.status == 3, "\(arguments) \(answer.stderr)")
    }
    try? FileManager.default.removeItem(atPath: "/var/tmp/cordon-away")
  }

  @Test("doctor: a host that can confine, and one whose warden is not there")
  func doctor() async throws {
    let tool = try await House.shared.value.tool
    let good = try await tool.run(["doctor", "--json"])
    #expect(good.status == 0, "\(good.text) \(good.stderr)")
    let bad = try await tool.run(["doctor", "--warden", "/usr/bin/false", "--json"])
    #expect(bad.status == 3)
    #expect(bad.text.contains("\"ready\":false"))
  }

  @Test("help is there for every command")
  func help() async throws {
    let tool = Tool(url: "")
    let commands = [
      "up", "migrate", "worker", "run", "enqueue", "jobs", "show", "logs", "artifacts", "cancel", "doctor",
    ]
    for command in commands {
      let answer = try await tool.run([command, "--help"])
      #expect(answer.status == 0)
      #expect(answer.text.contains("OVERVIEW"), "\(command)")
    }
  }
}
