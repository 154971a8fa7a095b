import Jobs
import Testing

@testable import Worker

@Suite("How a specification becomes a process")
struct CellCommandTests {
  private func command(_ specification: JobSpecification) -> CellCommand {
    CellCommand(specification, job: "J", attempt: 2, tenant: "T", queue: "Q")
  }

  @Test("arguments are passed as they are, without a shell")
  func arguments() {
    let hostile = ["--flag", "$(touch x)", ";", "a b", ""]
    let bash = command(JobSpecification(runtime: .bash, code: .text("true"), args: hostile))
    #expect(bash.argv == ["/usr/bin/bash", "--noprofile", "--norc", "/job/main.sh"] + hostile)
    let exec = command(JobSpecification(runtime: .exec, argv: ["/usr/bin/env"] + hostile))
    #expect(exec.argv == ["/usr/bin/env"] + hostile)
    #expect(exec.program == nil)
    #expect(command(JobSpecification(runtime: .python3, code: .text(""))).program == "main.py")
  }

  @Test("the job may set its own environment but not ours")
  func environment() {
    let specification = JobSpecification(
      runtime: .exec, argv: ["x"], env: ["TZ": "Europe/Oslo", "MINE": "1", "CORDON_JOB": "forged"])
    let environment = command(specification).environment
    #expect(environment["TZ"] == "Europe/Oslo")
    #expect(environment["MINE"] == "1")
    #expect(environment["CORDON_JOB"] == "J")
    #expect(environment["CORDON_ATTEMPT"] == "2")
    #expect(environment["CORDON_PARAMS"] == nil)
    #expect(command(JobSpecification(runtime: .exec, argv: ["x"], params: .null)).environment["CORDON_PARAMS"] != nil)
  }

  @Test("a bare program name is looked up in the cell's search path, anything with a slash is left alone")
  func program() throws {
    var bare = command(JobSpecification(runtime: .exec, argv: ["tool", "x"]))
    try bare.resolveProgram { $0 == "/usr/bin/tool" }
    #expect(bare.argv == ["/usr/bin/tool", "x"])
    var path = command(JobSpecification(runtime: .exec, argv: ["./tool"]))
    try path.resolveProgram { _ in true }
    #expect(path.argv == ["./tool"])
    var missing = command(JobSpecification(runtime: .exec, argv: ["tool"]))
    #expect(throws: Refusal.self) { try missing.resolveProgram { _ in false } }
  }
}
