import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

@Suite("Result files") struct ResultFileTests {
  private func read(_ tree: Tree, maximumBytes: Int64 = 1_000) throws -> (value: JSONValue?, problem: String?) {
    ResultFile.read(beneath: try Descriptor.directory(tree.result), maximumBytes: maximumBytes)
  }

  @Test func absentIsNoProblem() throws {
    let (value, problem) = try read(Tree())
    #expect(value == nil)
    #expect(problem == nil)
  }

  @Test func good() throws {
    let tree = try Tree()
    try tree.scratch.file("result/result.json", #"{"agree": 854}"#)
    let collected = try tree.collect()
    #expect(collected.result == .object(["agree": .integer(854)]))
    #expect(collected.resultProblem == nil)
  }

  @Test func refusedKinds() throws {
    for kind in ["symlink", "hardlink", "fifo", "directory", "large", "text", "sparse"] {
      let tree = try Tree()
      let path = tree.result + "/result.json"
      try tree.scratch.file("good.json", "{}")
      switch kind {
      case "symlink": symlink(tree.scratch.path + "/good.json", path)
      case "hardlink": link(tree.scratch.path + "/good.json", path)
      case "fifo": mkfifo(path, 0o666)
      case "directory": mkdir(path, 0o755)
      case "large": try tree.scratch.file("result/result.json", "\"" + String(repeating: "x", count: 1_000) + "\"")
      case "sparse":
        try tree.scratch.file("result/result.json", "")
        truncate(path, 1 << 40)
      default: try tree.scratch.file("result/result.json", "agree: 854")
      }
      let (value, problem) = try read(tree)
      #expect(value == nil, "\(kind)")
      #expect(problem?.hasPrefix("result_invalid: ") == true, "\(kind)")
    }
  }
}
