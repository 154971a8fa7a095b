import Foundation
import Jobs
import TestKit
import Testing

@Suite("Journeys: how a job ends", .serialized)
struct OutcomeJourneys {
  @Test("success: output streams, exit code 0, the record says who and what")
  func success() async throws {
    let tool = try await House.shared.value.tool
    let answer = try await tool.run(["run", "--", "/usr/bin/echo", "hello"])
    #expect(answer.status == 0)
    #expect(answer.text == "hello\n")

    let (record, status) = try await tool.record(of: ["--runtime", "python3", "--code", "print('hi')"])
    #expect(status == 0)
    #expect(record["state"] == .string("finished"))
    #expect(record["outcome"] == .string("succeeded"))
    #expect(record["exit_code"] == .integer(0))
    #expect(record["attempt"] == .integer(1))
    let attribution = record["attribution"]
    #expect(attribution?["enqueued_by"] == .string("cordon_local"))
    #expect(attribution?["worker_role"] == .string("cordon_local_worker"))
    #expect(attribution?["isolation"]?["waivers"] == .array([]))
    for digest in [
      attribution?["policy"], attribution?["code"], attribution?["build"], attribution?["isolation"]?["filter"],
    ] {
      #expect(digest?.string.flatMap(Digest.init) != nil, "\(String(describing: digest))")
    }
  }

  @Test(
    "exit codes are the kernel's, not a shell's convention",
    arguments: [("exit 3", "failed", 3), ("exit 137", "failed", 137), ("kill -ABRT $$", "signaled", 6)])
  func failure(code: String, outcome: String, number: Int64) async throws {
    let tool = try await House.shared.value.tool
    let (record, status) = try await tool.record(of: ["--runtime", "bash", "--code", code])
    #expect(status == 1)
    #expect(record["outcome"] == .string(outcome))
    #expect(record[outcome == "failed" ? "exit_code" : "signal"] == .integer(number))
  }

  @Test("progress: what a running job says is in its record, and no more when it is over")
  func progress() async throws {
    let tool = try await House.shared.value.tool
    let job = try await tool.enqueue([
      "--runtime", "python3", "--code",
      """
      import json, os, time
      for done in range(1, 1000):
        with open(os.environ["CORDON_PROGRESS"] + "~", "w") as file: json.dump({"done": done, "of": 1000}, file)
        os.rename(os.environ["CORDON_PROGRESS"] + "~", os.environ["CORDON_PROGRESS"])
        time.sleep(0.1)
      """,
    ])
    let first = try await tool.wait(for: job) { ($0["progress"]?["report"]?["done"]?.integer ?? 0) > 0 }
    let done = first["progress"]?["report"]?["done"]?.integer ?? 0
    _ = try await tool.wait(for: job) { ($0["progress"]?["report"]?["done"]?.integer ?? 0) > done }
    #expect(try await tool.run(["show", job]).text.contains("\"of\": 1000"))
    #expect(try await tool.run(["cancel", job]).status == 0)
    let over = try await tool.wait(for: job) { $0["state"] == .string("finished") }
    #expect(over["progress"] == .null)
  }

  @Test("timeout: what was written is kept")
  func timeout() async throws {
    let tool = try await House.shared.value.tool
    let code = "echo partial; echo x > $CORDON_OUTPUT/x; sleep 60"
    // In which a shell has written both.
    let (record, status) = try await tool.record(
      of: ["--timeout", "\(Int(2_000 * patience))ms", "--runtime", "bash", "--code", code])
    #expect(status == 1)
    #expect(record["outcome"] == .string("timed_out"))
    #expect(record["artifacts"]?.array?.count == 1)
    let logs = try await tool.run(["logs", record["job"]?.string ?? ""])
    #expect(logs.text == "partial\n")
  }

  @Test("out of memory is what the cgroup counted")
  func memory() async throws {
    let tool = try await House.shared.value.tool
    let (record, _) = try await tool.record(
      of: ["--memory", "64MiB", "--runtime", "python3", "--code", "x = bytearray(512 << 20)"])
    #expect(record["outcome"] == .string("out_of_memory"))
  }

  @Test("a fork bomb meets the process limit and is noted; a neighbour is unharmed")
  func forkBomb() async throws {
    let tool = try await House.shared.value.tool
    async let bomb = tool.record(
      of: ["--pids", "32", "--timeout", "3s", "--runtime", "bash", "--code", "b() { b | b & }; b; sleep 60"])
    async let neighbour = tool.run(["run", "--", "/usr/bin/echo", "well"])
    #expect(try await neighbour.text == "well\n")
    let record = try await bomb.record
    #expect(record["notes"]?.array?.contains(.string("pids_limit")) == true, "\(record)")
    #expect(record["state"] == .string("finished"))
  }

  @Test("an output flood stops at the limit and is called by its name")
  func outputFlood() async throws {
    let tool = try await House.shared.value.tool
    let (record, status) = try await tool.record(
      of: ["--output-limit", "1MiB", "--runtime", "bash", "--code", "head -c 5000000 /dev/zero > $CORDON_OUTPUT/big"])
    #expect(status == 1)
    #expect(record["outcome"] == .string("output_limit"))
  }

  @Test("a stdout flood is counted to the byte and kept to the cap")
  func streamFlood() async throws {
    let tool = try await House.shared.value.tool
    let (record, _) = try await tool.record(of: ["--", "/usr/bin/head", "-c", "20000000", "/dev/zero"])
    #expect(record["outcome"] == .string("succeeded"))
    #expect(record["stdout"]?["bytes"] == .integer(20_000_000))
    #expect(record["stdout"]?["truncated"] == .bool(true))
    let logs = try await tool.run(["logs", record["job"]?.string ?? ""])
    #expect(logs.stdout.count == 1 << 20)
  }

  @Test("a command that does not exist is refused: no job byte ran")
  func missingCommand() async throws {
    let tool = try await House.shared.value.tool
    let (record, status) = try await tool.record(of: ["--", "/usr/bin/no-such-command"])
    #expect(status == 4)
    #expect(record["outcome"] == .string("refused"))
  }

  @Test("NUL bytes, invalid UTF-8 and escape sequences are kept byte for byte")
  func bytes() async throws {
    let tool = try await House.shared.value.tool
    let answer = try await tool.run(["run", "--runtime", "bash", "--code", #"printf 'a\0b\xff\033[31mc'"#])
    #expect(answer.stdout == Array("a\0b".utf8) + [0xff, 0x1b] + Array("[31mc".utf8))
  }

  @Test(
    "the result is the file and nothing else",
    arguments: [
      (#"echo '{"agree": 1}' > $CORDON_RESULT"#, JSONValue.object(["agree": .integer(1)]), false),
      (#"echo '{"agree": 1}'"#, .null, false),
      ("echo '{broken' > $CORDON_RESULT", .null, true),
      ("ln -s /etc/passwd $CORDON_RESULT", .null, true),
      (#"echo '{"a": "\u0000"}' > $CORDON_RESULT"#, .null, true),
    ])
  func result(code: String, result: JSONValue, invalid: Bool) async throws {
    let tool = try await House.shared.value.tool
    let (record, _) = try await tool.record(of: ["--runtime", "bash", "--code", code])
    #expect(record["result"] == result)
    #expect((record["reason"]?.string?.hasPrefix("result_invalid") ?? false) == invalid, "\(record)")
  }

  @Test("outputs: plain files are published with their digests, everything else is listed and refused")
  func outputs() async throws {
    let tool = try await House.shared.value.tool
    let code = """
      cd $CORDON_OUTPUT
      mkdir sub; echo data > sub/plain.txt
      ln -s /etc/passwd link; ln sub/plain.txt hard 2>/dev/null; mkfifo pipe
      """
    let (record, _) = try await tool.record(of: ["--runtime", "bash", "--code", code])
    let refused = Set(record["quarantined"]?.array?.compactMap { $0["path"]?.string } ?? [])
    #expect(refused.isSuperset(of: ["link", "pipe", "hard", "sub/plain.txt"]), "\(record)")
    #expect(record["artifacts"] == .array([]))
  }
}
