import Jobs
import Postgres
import TestKit
import Testing

@testable import Store

/// One refused specification: what is asked, the SQLSTATE, and the field the message starts with.
private struct Bad: Sendable {
  let specification: String
  let state: String
  let field: String

  init(_ specification: String, _ field: String, _ state: String = "22023") {
    self.specification = specification
    self.state = state
    self.field = field
  }

  /// A bash job with one more member.
  static func bash(_ member: String, _ field: String, _ state: String = "22023") -> Bad {
    Bad(#"{"runtime": "bash", "code": "true", \#(member)}"#, field, state)
  }

  static func exec(_ members: String, _ field: String) -> Bad {
    Bad(#"{"runtime": "exec", \#(members)}"#, field)
  }

  static func limit(_ limit: String, _ field: String, _ state: String = "22023") -> Bad {
    bash(#""limits": {\#(limit)}"#, "limits.\(field)", state)
  }
}

private func list(_ count: Int, _ item: (Int) -> String) -> String {
  (0..<count).map(item).joined(separator: ", ")
}

private let absent = "sha256:" + String(repeating: "0", count: 64)

private let bad: [Bad] = [
  // No specification at all.
  Bad("", "specification"), Bad("{", "specification"), Bad("[]", "specification"), Bad("null", "specification"),
  Bad("\"x\"", "specification"), Bad(#"{"runtime": "bash", "code": "\u0000"}"#, "specification"),
  Bad(#"{"runtime": "bash", "code": "\#(String(repeating: "x", count: 1 << 20))"}"#, "specification"),
  Bad(String(repeating: "[", count: 100_000), "specification"),
  .bash(#""params": \#(String(repeating: "[", count: 64) + String(repeating: "]", count: 64))"#, "specification"),
  .bash(#""params": 1e400"#, "specification"), .bash(#""params": [{"x": -1e131071}]"#, "specification"),
  .bash(#""params": 1e999999999"#, "specification"),
  // Members nobody knows, attribution among them.
  .bash(#""submitted_by": "root""#, "submitted_by"), .bash(#""tenant": "beta""#, "tenant"),
  .bash(#""policy": "none""#, "policy"), .bash(#""Limits": {}"#, "Limits"), .bash(#""": 1"#, "[\"\"]"),
  .bash(#""a\nb": 1"#, #"["a\nb"]"#),
  // The program.
  Bad("{}", "runtime"), Bad(#"{"runtime": null}"#, "runtime"), Bad(#"{"runtime": "perl", "code": ""}"#, "runtime"),
  Bad(#"{"runtime": 7, "code": ""}"#, "runtime"), Bad(#"{"runtime": "BASH", "code": ""}"#, "runtime"),
  Bad(#"{"runtime": "bash"}"#, "code"), Bad(#"{"runtime": "python3", "code": null}"#, "code"),
  Bad(#"{"runtime": "bash", "code": 1}"#, "code"), Bad(#"{"runtime": "bash", "code": []}"#, "code"),
  Bad(#"{"runtime": "bash", "code": {}}"#, "code"), Bad(#"{"runtime": "bash", "code": {"url": "x"}}"#, "code"),
  Bad(#"{"runtime": "bash", "code": {"text": "a", "path": "b"}}"#, "code"),
  Bad(#"{"runtime": "bash", "code": {"path": "/etc/passwd"}}"#, "code.path"),
  Bad(#"{"runtime": "bash", "code": {"path": "a/../b"}}"#, "code.path"),
  Bad(#"{"runtime": "bash", "code": {"path": ""}}"#, "code.path"),
  Bad(#"{"runtime": "bash", "code": {"path": "a//b"}}"#, "code.path"),
  Bad(#"{"runtime": "bash", "code": {"path": "."}}"#, "code.path"),
  Bad(#"{"runtime": "bash", "code": {"blob": "sha256:12"}}"#, "code.blob"),
  Bad(#"{"runtime": "bash", "code": {"blob": "\#(absent)"}}"#, "code.blob"),
  .exec(#""argv": []"#, "argv"), .exec(#""args": ["x"]"#, "argv"), .exec(#""argv": "true""#, "argv"),
  .exec(#""argv": [""]"#, "argv[0]"), .exec(#""argv": ["a", 1]"#, "argv[1]"), .exec(#""argv": [null]"#, "argv[0]"),
  .exec(#""argv": ["true"], "code": "x""#, "code"), .exec(#""argv": ["true"], "args": ["x"]"#, "args"),
  .exec(#""argv": [\#(list(1025) { _ in "\"a\"" })]"#, "argv"),
  .exec(#""argv": ["a", "\#(String(repeating: "x", count: 131_072))"]"#, "argv[1]"),
  .bash(#""argv": ["x"]"#, "argv"), .bash(#""args": {"a": 1}"#, "args"), .bash(#""args": [["x"]]"#, "args[0]"),
  .bash(#""args": "x""#, "args"),
  // Environment, stdin, labels.
  .bash(#""env": []"#, "env"), .bash(#""env": {"A": 1}"#, "env.A"), .bash(#""env": {"1A": "x"}"#, "env.1A"),
  .bash(#""env": {"A=B": "x"}"#, #"env["A=B"]"#), .bash(#""env": {"CORDON_JOB": "x"}"#, "env.CORDON_JOB"),
  .bash(#""env": {"A": null}"#, "env.A"), .bash(#""env": {"": "x"}"#, #"env[""]"#),
  .bash(#""env": {\#(list(257) { "\"A\($0)\": \"\"" })}"#, "env"),
  .bash(#""env": {"A": "\#(String(repeating: "x", count: 131_072))"}"#, "env.A"),
  .bash(#""stdin": 1"#, "stdin"), .bash(#""stdin": {"text": "x"}"#, "stdin"),
  .bash(#""labels": ["a"]"#, "labels"), .bash(#""labels": {"a": 1}"#, "labels.a"),
  .bash(#""labels": {"a": "\#(String(repeating: "x", count: 1025))"}"#, "labels.a"),
  // Inputs.
  .bash(#""inputs": []"#, "inputs"), .bash(#""inputs": {"a": "x"}"#, "inputs.a"),
  .bash(#""inputs": {"a": {"text": 1}}"#, "inputs.a.text"),
  .bash(#""inputs": {"a": {"artifact": "x"}}"#, "inputs.a.artifact"),
  .bash(#""inputs": {"a": {"artifact": "00000000-0000-7000-8000-000000000000/"}}"#, "inputs.a.artifact"),
  .bash(#""inputs": {"a": {"artifact": "00000000-0000-7000-8000-000000000000/x"}}"#, "inputs.a.artifact"),
  .bash(#""inputs": {"a": {"result": "00000000-0000-7000-8000-000000000000"}}"#, "inputs.a.result"),
  .bash(#""inputs": {"a": {"result": 1}}"#, "inputs.a.result"), .bash(#""inputs": {"a": {"output": "x"}}"#, "inputs.a"),
  .bash(#""inputs": {"../a": {"text": ""}}"#, #"inputs["../a"]"#),
  .bash(#""inputs": {".a": {"text": ""}}"#, "inputs..a"), .bash(#""inputs": {"-a": {"text": ""}}"#, "inputs.-a"),
  .bash(#""inputs": {"a": {"blob": "\#(absent)"}}"#, "inputs.a.blob"),
  .bash(#""inputs": {"a": {"blob": "\#(absent.uppercased())"}}"#, "inputs.a.blob"),
  .bash(#""inputs": {"a": {"path": "x/.."}}"#, "inputs.a.path"),
  .bash(#""inputs": {\#(list(65) { "\"f\($0)\": {\"text\": \"\"}" })}"#, "inputs"),
  .bash(#""inputs": {"\#(String(repeating: "a", count: 256))": {"text": ""}}"#, "inputs["),
  // Limits.
  .bash(#""limits": 5"#, "limits"), .limit(#""ram": 1"#, "ram"), .limit(#""memory": "12XB""#, "memory"),
  .limit(#""memory": 0"#, "memory"), .limit(#""memory": 1.5"#, "memory"), .limit(#""memory": -1"#, "memory"),
  .limit(#""memory": 1e300"#, "memory"), .limit(#""memory": true"#, "memory"), .limit(#""wall": 300"#, "wall"),
  .limit(#""wall": "5 m""#, "wall"), .limit(#""wall": "0s""#, "wall"), .limit(#""cpus": 0"#, "cpus"),
  .limit(#""cpus": 0.001"#, "cpus"), .limit(#""cpus": "1""#, "cpus"), .limit(#""pids": 1.5"#, "pids"),
  .limit(#""pids": "64""#, "pids"), .limit(#""files": 0"#, "files"),
  .limit(#""memory": "16GiB""#, "memory", "CD001"), .limit(#""wall": "25h""#, "wall", "CD001"),
  .limit(#""cpus": 17"#, "cpus", "CD001"), .limit(#""pids": 4097"#, "pids", "CD001"),
  .limit(#""output": 1073741825"#, "output", "CD001"), .limit(#""grace": "61s""#, "grace", "CD001"),
  .limit(#""stdout": "17MiB""#, "stdout", "CD001"), .limit(#""result": "2MiB""#, "result", "CD001"),
  // Grants.
  .bash(#""grants": ["packages"]"#, "grants", "42501"), .bash(#""grants": {}"#, "grants"),
  .bash(#""grants": "all""#, "grants"),
]

@Suite(.migrated) struct SpecificationTests {
  /// Every refusal names the field on one line, and neither a job nor anything else is left behind.
  @Test func badOnesAreRefusedAndLeaveNothing() async throws {
    #expect(bad.count >= 40)
    let producer = try await Member.producer()
    for (number, wrong) in bad.enumerated() {
      let error = try await refusal {
        try await producer.store.enqueue(queue: "default", specification: wrong.specification, key: "k\(number)")
      }
      let shown = String(wrong.specification.prefix(120))
      #expect(error.sqlState == wrong.state, "\(shown): \(error.message)")
      #expect(error.message.hasPrefix(wrong.field), "\(shown): \(error.message)")
      let after = error.message.dropFirst(wrong.field.count).first
      #expect(after == ":" || wrong.field.hasSuffix("["), "\(shown): \(error.message)")
      #expect(!error.message.contains { $0.isNewline } && error.message.utf8.count < 400, "\(error.message)")
    }
    let left = try await admin(
      """
      select (select count(*) from cordon.job) + (select count(*) from cordon.ready)
        + (select count(*) from cordon.scheduled) + (select count(*) from cordon.idempotency)
      """)
    #expect(left == ["0"])
  }

  /// The same request with the fault removed is accepted, so the refusals above are for the fault.
  @Test(arguments: [
    #"{"runtime": "exec", "argv": ["/bin/true", "", "ü"], "args": [], "code": null, "grants": []}"#,
    #"{"runtime": "bash", "code": "", "argv": [], "args": ["-x"], "env": {"_A1": ""}, "stdin": "", "labels": {"a b": "c"}}"#,
    #"{"runtime": "python3", "code": {"text": "pass"}, "inputs": {"_a-b.csv": {"path": "x/..y/z"}}, "params": [0, 1e308]}"#,
    #"{"runtime": "python3", "code": {"path": "a.py"}, "limits": {"cpus": 0.01, "memory": 8589934592, "wall": "24h"}}"#,
    #"{"runtime": "bash", "code": "true", "limits": null, "inputs": null, "env": null, "params": null}"#,
  ])
  func goodOnesAreAccepted(_ specification: String) async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: specification)
    #expect(job.created)
    let worker = try await Member.worker()
    let claim = try #require(try await worker.member.store.claim(worker: worker.id, limit: 1).first)
    #expect(claim.specificationError == nil)
    #expect(claim.specification != nil)
  }

  @Test func nestingOf64IsAccepted() async throws {
    let producer = try await Member.producer()
    let params = String(repeating: "[", count: 63) + String(repeating: "]", count: 63)
    _ = try await producer.store.enqueue(
      queue: "default", specification: #"{"runtime": "bash", "code": "", "params": \#(params)}"#)
  }

  @Test func otherArgumentsAreCheckedToo() async throws {
    let producer = try await Member.producer()
    let priority = try await refusal {
      try await producer.store.enqueue(queue: "default", specification: sleepJob, priority: 10)
    }
    #expect(priority.sqlState == "22023" && priority.message.hasPrefix("priority: "))
    let queue = try await refusal { try await producer.store.enqueue(queue: "nowhere", specification: sleepJob) }
    #expect(queue.sqlState == "42501" && queue.message.hasPrefix("queue: "))
    let key = try await refusal {
      try await producer.store.enqueue(
        queue: "default", specification: sleepJob, key: String(repeating: "k", count: 256))
    }
    #expect(key.sqlState == "22023" && key.message.hasPrefix("key: "))
    let time = try await refusal {
      try await producer.column("select cordon.enqueue('default', '{}', run_at => 'infinity')::text")
    }
    #expect(time.sqlState == "22023" && time.message.hasPrefix("run_at: "))
  }

  /// One bad specification of many: its number is named, and none of the others is enqueued.
  @Test func manyAreAllOrNone() async throws {
    let producer = try await Member.producer()
    let error = try await refusal {
      try await producer.store.enqueueMany(
        queue: "default",
        specifications: [sleepJob, sleepJob, #"{"runtime": "bash", "code": "", "limits": {"pids": 0}}"#])
    }
    #expect(error.message.hasPrefix("specifications[2].limits.pids: "))
    let syntax = try await refusal {
      try await producer.store.enqueueMany(queue: "default", specifications: [sleepJob, "{"])
    }
    #expect(syntax.message.hasPrefix("specifications[1].specification: is no JSON"))
    #expect(try await admin("select count(*) from cordon.job") == ["0"])
    let jobs = try await producer.store.enqueueMany(queue: "default", specifications: [sleepJob, sleepJob, sleepJob])
    #expect(jobs.map(\.description) == jobs.map(\.description).sorted())
    #expect(Set(jobs).count == 3)
  }

  /// Text that would be SQL if anything pasted it.
  @Test(arguments: [
    "'; drop table cordon.job; --", "\\'; select pg_sleep(9)", "$$ || $x$", "%s %I %L", "\u{1B}[31m\u{202E}",
  ])
  func injectionIsText(_ hostile: String) async throws {
    let producer = try await Member.producer()
    let escaped = hostile.replacing("\\", with: "\\\\").replacing("\u{1B}", with: "\\u001b")
    let job = try await producer.store.enqueue(
      queue: "default",
      specification:
        #"{"runtime": "bash", "code": "x", "labels": {"\#(escaped)": "\#(escaped)"}, "env": {"A": "\#(escaped)"}}"#,
      key: hostile)
    let again = try await producer.store.jobs(queue: "default")
    #expect(try json(again[0])["labels"]?[hostile]?.string == hostile)
    #expect(try json(again[0])["key"]?.string == hostile)
    #expect(try json(again[0])["job"]?.string == job.job.description)
    let queue = try await refusal { try await producer.store.enqueue(queue: hostile, specification: sleepJob) }
    #expect(queue.sqlState == "42501" && !queue.message.contains("\u{1B}"))
    let name = try await refusal { try await Member.superuser.store.addQueue(name: hostile) }
    #expect(name.sqlState == "22023")
    let worker = try await Member.make("cordon_worker")
    let register = try await refusal {
      try await worker.store.registerWorker(
        name: hostile, host: hostile, build: hostile, queues: [hostile], slots: 1, leaseSeconds: 30)
    }
    #expect(register.sqlState == "42501")
  }
}
