import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

@Suite("Stage") struct StageTests {
  private func stage(_ scratch: Scratch) throws -> (stage: Stage, path: String) {
    let staging = try scratch.directory("stages")
    let stage = try Stage.make(beneath: Descriptor.directory(staging))
    return (stage, "\(staging)/\(stage.name)")
  }

  @Test func writesReadOnlyFiles() throws {
    let scratch = try Scratch()
    let old = umask(0o077)
    defer { umask(old) }
    let (stage, path) = try stage(scratch)
    let facts = try stage.writeInput(name: "a.csv", bytes: Array("1,2".utf8))
    #expect(facts == InputFacts(name: "a.csv", sha256: sha256(Array("1,2".utf8)), bytes: 3))
    #expect(try stage.writeJobFile(name: "main.py", bytes: [], executable: false) == sha256([]))
    _ = try stage.writeJobFile(name: "tool", bytes: [1], executable: true)
    #expect(try readFile(path + "/input/a.csv") == "1,2")
    let root = try Descriptor.directory(path)
    for (name, mode) in [("input", 0o755), ("job", 0o755)] {
      #expect(try root.status(of: FileName(name.utf8)).st_mode & 0o7777 == mode_t(mode))
    }
    let job = try root.directory(Array("job".utf8))
    #expect(try job.status(of: Array("main.py".utf8)).st_mode & 0o7777 == 0o444)
    #expect(try job.status(of: Array("tool".utf8)).st_mode & 0o7777 == 0o555)
    stage.remove()
    #expect(!exists(path))
  }

  @Test(arguments: [
    "", ".", "..", ".hidden", "-rf", "a/b", "../x", "a\0b", "a b", "é", "a\n", String(repeating: "a", count: 256),
  ])
  func namesAreChecked(name: String) throws {
    let scratch = try Scratch()
    let (stage, path) = try stage(scratch)
    #expect(throws: SandboxError.self) { try stage.writeInput(name: name, bytes: []) }
    #expect(throws: SandboxError.self) { try stage.writeJobFile(name: name, bytes: [], executable: false) }
    #expect(try names(in: path + "/input").isEmpty)
    #expect(try names(in: path).count == 2)
  }

  @Test func aNameIsGivenOnce() throws {
    let scratch = try Scratch()
    let (stage, path) = try stage(scratch)
    _ = try stage.writeInput(name: "a", bytes: [1])
    let error = try #require(throws: SandboxError.self) { try stage.writeInput(name: "a", bytes: [2]) }
    #expect(error.errno == EEXIST)
    symlink(scratch.path + "/elsewhere", path + "/input/planted")
    #expect(throws: SandboxError.self) { try stage.writeInput(name: "planted", bytes: [2]) }
    #expect(!exists(scratch.path + "/elsewhere"))
  }

  @Test func copiesBeneathTheRoot() throws {
    let scratch = try Scratch()
    let (stage, path) = try stage(scratch)
    let root = try scratch.directory("root/sub")
    try scratch.file("root/sub/rules.csv", "rule")
    let facts = try stage.copyInput(name: "rules.csv", root: scratch.path + "/root", path: "sub/rules.csv")
    #expect(facts == InputFacts(name: "rules.csv", sha256: sha256(Array("rule".utf8)), bytes: 4))
    #expect(try readFile(path + "/input/rules.csv") == "rule")
    #expect(try Stage.readBeneath(root: root, path: "rules.csv") == Array("rule".utf8))
    #expect(throws: SandboxError.self) { try Stage.readBeneath(root: root, path: "rules.csv", maximumBytes: 3) }
  }

  @Test func escapesAreRefused() throws {
    let scratch = try Scratch()
    let (stage, path) = try stage(scratch)
    let root = try scratch.directory("root")
    try scratch.file("secret", "secret")
    try scratch.file("root/big", "12345")
    symlink("../secret", root + "/link")
    symlink(scratch.path, root + "/dir")
    symlink("big", root + "/inner")
    symlink("/proc/self/environ", root + "/magic")
    mkfifo(root + "/fifo", 0o666)
    mkdir(root + "/directory", 0o755)
    mknod(root + "/device", S_IFCHR | 0o666, 0x103)
    #expect(try readFile(root + "/link") == "secret", "control: a plain open does follow")
    let escapes = [
      "../secret", "x/../../secret", scratch.path + "/secret", "link", "dir/secret", "inner", "magic", "fifo",
      "directory", "device", "absent", "", ".", "a\0b",
    ]
    for escape in escapes {
      #expect(throws: SandboxError.self, "\(escape)") { try stage.copyInput(name: "x", root: root, path: escape) }
    }
    let error = try #require(throws: SandboxError.self) {
      try stage.copyInput(name: "x", root: root, path: "big", maximumBytes: 4)
    }
    #expect(error.errno == EFBIG)
    #expect(try names(in: path + "/input").isEmpty)
  }

  @Test func aFullDiskLeavesNoHalfFile() throws {
    let scratch = try Scratch()
    let staging = try scratch.directory("stages")
    try withSmallFilesystem(at: staging, bytes: 128 << 10) {
      let stage = try Stage.make(beneath: Descriptor.directory(staging))
      let error = try #require(throws: SandboxError.self) {
        try stage.writeInput(name: "big", bytes: Array(repeating: 1, count: 1 << 20))
      }
      #expect(error.isOutOfSpace)
      #expect(try names(in: "\(staging)/\(stage.name)/input").isEmpty)
    }
  }

  @Test func leftoversOfTheDeadAreSwept() throws {
    let scratch = try Scratch()
    let configuration = SandboxConfiguration(
      wardenPath: "", stateDirectory: scratch.path + "/state", approvedRoot: scratch.path + "/approved")
    let staging = try configuration.prepareDirectories()
    let live = try Stage.make(beneath: staging)
    let dead = configuration.stagingDirectory + "/0123456789abcdef"
    try makeDirectories(dead + "/input", mode: 0o755)
    _ = try configuration.prepareDirectories()
    #expect(!exists(dead))
    #expect(exists(configuration.stagingDirectory + "/" + live.name))
    #expect(try Descriptor.directory(configuration.stateDirectory).status().st_mode & 0o7777 == 0o700)
  }

  @Test func relativeDirectoriesAreRefused() {
    let configuration = SandboxConfiguration(wardenPath: "w", stateDirectory: "state", approvedRoot: "/tmp")
    #expect(throws: SandboxError.self) { try configuration.prepareDirectories() }
  }
}
