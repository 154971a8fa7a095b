import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// The outputs of a job, made by hand: what a cell leaves behind is only a directory, however hostile.
final class Tree: Sendable {
  let scratch: Scratch
  let output: String
  let result: String
  let approvedRoot: String

  init() throws {
    scratch = try Scratch()
    output = try scratch.directory("output")
    result = try scratch.directory("result")
    approvedRoot = try scratch.directory("approved")
    try scratch.file("secret", "the host's secret")
  }

  func collect(
    limits: Limits = Limits(), tenant: String = "acme", job: String = "job", attempt: Int = 1,
    screen: OutputScreen? = nil, now: ContinuousClock.Instant = .now,
    beforeOpening: @escaping (FileName) -> Void = { _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws -> Collected {
    try Outputs.collect(
      output: Descriptor.directory(output), result: Descriptor.directory(result), approvedRoot: approvedRoot,
      tenant: tenant, job: job, attempt: attempt,
      walk: OutputWalk(
        limits: limits, screen: screen, now: now, isCancelled: isCancelled, beforeOpening: beforeOpening),
      resultBytes: limits.resultBytes)
  }

  func write(_ name: String, _ text: String) throws { try scratch.file("output/" + name, text) }

  var pending: [String] { (try? names(in: approvedRoot + "/.pending")) ?? [] }

  static func reasons(_ collected: Collected) -> [String: String] {
    Dictionary(uniqueKeysWithValues: collected.quarantined.map { ($0.path, $0.reason) })
  }
}

@Suite("Outputs") struct OutputsTests {
  @Test("CR-13: what is looked for is found in files and in names, wherever a copy is cut, and is shown nowhere")
  func screened() throws {
    let tree = try Tree()
    let filler = String(repeating: ".", count: 262_141)
    try makeDirectories(tree.output + "/canary-d", mode: 0o700)
    try tree.write("canary-d/inner", "x")
    try tree.write("cut", filler + "canary" + filler)
    try tree.write("end", "canary")
    try tree.write("name canary", "x")
    try tree.write("clean", "canar y" + filler)
    // What it has seen of a text so far is all that it keeps.
    let screen = OutputScreen {
      var text: [UInt8] = []
      return { bytes in
        text += bytes
        return String(decoding: text, as: UTF8.self).contains("canary")
      }
    } conceal: {
      Array(String(decoding: $0, as: UTF8.self).replacing("canary", with: "[gone]").utf8)
    }
    let collected = try tree.collect(screen: screen)
    #expect(collected.artifacts.map(\.path) == ["clean"])
    #expect(
      Tree.reasons(collected) == ["[gone]-d": "secret", "cut": "secret", "end": "secret", "name [gone]": "secret"])
    let path = try #require(try collected.publish())
    #expect(try names(in: path) == ["clean"])
    // The control: without it they are all outputs.
    #expect(try tree.collect(attempt: 2).artifacts.count == 5)
  }

  @Test func publishesByOneRename() throws {
    let tree = try Tree()
    try makeDirectories(tree.output + "/a/b", mode: 0o700)
    try makeDirectories(tree.output + "/empty/inner", mode: 0o700)
    try tree.write("a/b/deep.txt", "deep")
    try tree.write("top.csv", "1,2\n")
    let collected = try tree.collect()
    #expect(collected.artifacts.map(\.path) == ["a/b/deep.txt", "top.csv"])
    #expect(collected.artifacts.map(\.bytes) == [4, 4])
    #expect(collected.outputBytes == 8)
    #expect(collected.artifacts[0].sha256 == sha256(Array("deep".utf8)))
    #expect(collected.quarantined.isEmpty)
    #expect(!exists(tree.approvedRoot + "/acme"), "nothing is visible before publish")
    let path = try #require(try collected.publish())
    #expect(path == tree.approvedRoot + "/acme/job/1")
    #expect(try readFile(path + "/a/b/deep.txt") == "deep")
    #expect(try names(in: path) == ["a", "top.csv"], "directories without files are no output")
    #expect(tree.pending.isEmpty)
    collected.discard()
    #expect(exists(path + "/top.csv"), "discard after publish changes nothing")
    try Outputs.withdraw(path)
    #expect(!exists(tree.approvedRoot + "/acme"))
    #expect(tree.pending.isEmpty)
    try Outputs.withdraw(path)
  }

  @Test func withdrawLeavesOtherAttempts() throws {
    let tree = try Tree()
    try tree.write("x", "1")
    let first = try #require(try tree.collect(attempt: 1).publish())
    let second = try #require(try tree.collect(attempt: 2).publish())
    try Outputs.withdraw(first)
    #expect(!exists(first))
    #expect(exists(second + "/x"))
    #expect(throws: SandboxError.self) { try Outputs.withdraw("relative/a/b/c") }
    #expect(throws: SandboxError.self) { try Outputs.withdraw(tree.approvedRoot + "/acme/../job/1") }
  }

  @Test func aPublishedAttemptIsNeverReplaced() throws {
    let tree = try Tree()
    try tree.write("x", "first")
    let path = try #require(try tree.collect().publish())
    try tree.write("x", "second")
    #expect(throws: SandboxError.self) { try tree.collect().publish() }
    #expect(try readFile(path + "/x") == "first")
    #expect(tree.pending.isEmpty)
  }

  @Test func theRootMayEndInASlash() throws {
    let tree = try Tree()
    try tree.write("x", "1")
    let collected = try Outputs.collect(
      output: Descriptor.directory(tree.output), result: Descriptor.directory(tree.result),
      approvedRoot: tree.approvedRoot + "//", tenant: "t", job: "j", attempt: 3, walk: OutputWalk(limits: Limits()),
      resultBytes: 10)
    #expect(try collected.publish() == tree.approvedRoot + "/t/j/3")
  }

  @Test func nothingToPublish() throws {
    let tree = try Tree()
    let collected = try tree.collect()
    #expect(try collected.publish() == nil)
    #expect(tree.pending.isEmpty)
    #expect(try names(in: tree.approvedRoot).isEmpty, "nothing to copy, so nothing was made for it")
  }

  @Test func linksAreNeverFollowed() throws {
    let tree = try Tree()
    let secret = tree.scratch.path + "/secret"
    symlink(secret, tree.output + "/absolute")
    symlink("../secret", tree.output + "/relative")
    symlink("/", tree.output + "/root")
    symlink(".", tree.output + "/component")
    symlink("/proc/self/environ", tree.output + "/environ")
    symlink("/proc/self/fd/0", tree.output + "/magic")
    symlink("dangling", tree.output + "/dangling")
    symlink("loop", tree.output + "/loop")
    link(secret, tree.output + "/hard")
    try tree.write("good", "good")
    #expect(try readFile(tree.output + "/absolute") == "the host's secret", "control: a plain open does follow")
    let collected = try tree.collect()
    let links = ["absolute", "relative", "root", "component", "environ", "magic", "dangling", "loop"]
    #expect(
      Tree.reasons(collected)
        == Dictionary(uniqueKeysWithValues: links.map { ($0, "symlink") } + [("hard", "hardlink")]))
    #expect(collected.artifacts.map(\.path) == ["good"])
    let path = try #require(try collected.publish())
    #expect(try names(in: path) == ["good"])
  }

  @Test func specialFilesAreNeverOpened() throws {
    let tree = try Tree()
    #expect(mkfifo(tree.output + "/fifo", 0o666) == 0)
    #expect(mknod(tree.output + "/null", S_IFCHR | 0o666, 0x103) == 0)
    #expect(mknod(tree.output + "/disk", S_IFBLK | 0o666, 0x700) == 0)
    let socket = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(socket) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: (tree.output + "/socket").utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(bound == 0)
    let started = ContinuousClock.now
    let collected = try tree.collect()
    #expect(ContinuousClock.now - started < .seconds(5))
    #expect(Tree.reasons(collected) == ["fifo": "fifo", "null": "device", "disk": "device", "socket": "socket"])
    #expect(collected.artifacts.isEmpty)
  }

  @Test func namesAreBytes() throws {
    let tree = try Tree()
    let output = try Descriptor.directory(tree.output)
    let long = [UInt8](repeating: UInt8(ascii: "n"), count: 255)
    let hostile: [FileName] = [
      Array("new\nline".utf8), Array("\u{1B}]0;title\u{7}".utf8), [0xFF, 0x2E], Array("-rf".utf8), long,
      Array("back\\slash".utf8), Array("e\u{301}".utf8), Array("\u{e9}".utf8), Array(" ".utf8), Array("...".utf8),
    ]
    for name in hostile { try output.open(beneath: name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644).writeAll(name) }
    let collected = try tree.collect()
    #expect(collected.quarantined.isEmpty)
    #expect(Set(collected.artifacts.map(\.path)) == Set(hostile.map { EscapedName.show($0) }))
    #expect(collected.artifacts.allSatisfy { $0.path.unicodeScalars.allSatisfy { $0.value >= 0x20 } })
    let published = try Descriptor.directory(try #require(try collected.publish()))
    #expect(Set(try published.names(maximum: 100)) == Set(hostile), "the files keep their bytes")
    for name in hostile { #expect(try published.open(beneath: name, O_RDONLY).readAll(limit: 300) == name) }
  }

  @Test func modesAreNormalised() throws {
    let tree = try Tree()
    for (name, mode) in [("suid", 0o4755), ("sgid", 0o2644), ("sticky", 0o1600), ("none", 0), ("world", 0o777)] {
      try tree.write(name, name)
      chmod(tree.output + "/" + name, mode_t(mode))
    }
    try makeDirectories(tree.output + "/dir", mode: 0o755)
    try tree.write("dir/x", "x")
    chmod(tree.output + "/dir", 0o7000)
    chown(tree.output + "/suid", 4_242, 4_242)
    let path = try #require(try tree.collect().publish())
    let root = try Descriptor.directory(path)
    var modes: [String: mode_t] = [:]
    for name in ["suid", "sgid", "sticky", "none", "world", "dir"] {
      let status = try root.status(of: FileName(name.utf8))
      modes[name] = status.st_mode & 0o7777
      #expect(status.st_uid == 0)
    }
    #expect(modes == ["suid": 0o755, "sgid": 0o644, "sticky": 0o644, "none": 0o644, "world": 0o755, "dir": 0o755])
    #expect(try root.status().st_mode & 0o7777 == 0o755)
    for (parent, mode) in [("/acme", 0o750), ("/acme/job", 0o750), ("/.pending", 0o700), ("", 0o755)] {
      let status = try Descriptor.directory(tree.approvedRoot + parent).status()
      #expect(status.st_mode & 0o7777 == mode_t(mode), "\(parent)")
    }
  }

  @Test func theApprovedRootIsForItsGroupUnlessTheOperatorMadeIt() throws {
    let scratch = try Scratch()
    var configuration = Bench.configuration(scratch)
    configuration.approvedRoot = scratch.path + "/srv/artifacts"
    _ = try configuration.prepareDirectories()
    func mode(_ path: String) throws -> mode_t { try Descriptor.directory(path).status().st_mode & 0o7777 }
    #expect(try mode(configuration.approvedRoot) == 0o750)
    #expect(try mode(scratch.path + "/srv") == 0o755)
    chmod(configuration.approvedRoot, 0o755)
    _ = try configuration.prepareDirectories()
    #expect(try mode(configuration.approvedRoot) == 0o755, "its mode is the operator's")
  }

  @Test func sparseFilesCountByTheirSize() throws {
    let tree = try Tree()
    try tree.write("huge", "")
    #expect(truncate(tree.output + "/huge", 1 << 40) == 0)
    try tree.write("hole", "")
    #expect(truncate(tree.output + "/hole", 3 << 20) == 0)
    try tree.write("second", "")
    #expect(truncate(tree.output + "/second", 3 << 20) == 0)
    let collected = try tree.collect(limits: Limits(outputBytes: 4 << 20))
    #expect(collected.artifacts.map(\.path) == ["hole"])
    #expect(collected.artifacts[0].bytes == 3 << 20)
    #expect(Tree.reasons(collected) == ["huge": "too_large", "second": "too_large"])
  }

  @Test(arguments: ["symlink", "fifo", "file", "directory", "gone", "hardlink"])
  func whatIsSwappedIsNotPublished(kind: String) throws {
    let tree = try Tree()
    try tree.write("victim", "seen")
    try tree.write("other", "other")
    let victim = tree.output + "/victim"
    let secret = tree.scratch.path + "/secret"
    let collected = try tree.collect { path in
      guard path == Array("victim".utf8) else { return }
      // Kept open elsewhere, so that the new file cannot get the same inode.
      rename(victim, tree.scratch.path + "/moved")
      switch kind {
      case "symlink": symlink(secret, victim)
      case "fifo": mkfifo(victim, 0o666)
      case "file": _ = try? tree.write("victim", "swapped")
      case "directory": mkdir(victim, 0o755)
      case "hardlink": link(secret, victim)
      default: break
      }
    }
    #expect(collected.artifacts.map(\.path) == ["other"])
    #expect(Tree.reasons(collected) == ["victim": "changed"])
    let path = try #require(try collected.publish())
    #expect(try names(in: path) == ["other"])
  }

  @Test func aDirectorySwappedForALinkIsNotEntered() throws {
    let tree = try Tree()
    try makeDirectories(tree.output + "/dir", mode: 0o755)
    let collected = try tree.collect { _ in
      rmdir(tree.output + "/dir")
      symlink(tree.scratch.path, tree.output + "/dir")
    }
    #expect(collected.artifacts.isEmpty)
    #expect(Tree.reasons(collected) == ["dir": "changed"])
  }

  @Test func anotherMountIsNotEntered() throws {
    let tree = try Tree()
    try makeDirectories(tree.output + "/mounted", mode: 0o755)
    try withSmallFilesystem(at: tree.output + "/mounted", bytes: 1 << 20) {
      try tree.write("mounted/inside", "inside")
      let collected = try tree.collect()
      #expect(collected.artifacts.isEmpty)
      #expect(collected.quarantined.map(\.path) == ["mounted"])
    }
  }

  @Test func aFullDiskLeavesNothing() throws {
    let tree = try Tree()
    try withSmallFilesystem(at: tree.approvedRoot, bytes: 256 << 10) {
      try tree.write("small", "small")
      try tree.scratch.file("output/zbig", String(repeating: "b", count: 1 << 20))
      let error = try #require(throws: SandboxError.self) { try tree.collect() }
      #expect(error.stage == "collect")
      #expect(error.isOutOfSpace)
      #expect(tree.pending.isEmpty)
      #expect(try names(in: tree.approvedRoot) == [".pending"])
    }
  }

  @Test func tenantsCannotLeaveTheRoot() throws {
    let tree = try Tree()
    try tree.write("x", "x")
    let path = try #require(try tree.collect(tenant: "../../etc").publish())
    #expect(path == tree.approvedRoot + "/%2E.%2F..%2Fetc/job/1")
    #expect(exists(path + "/x"))
    #expect(throws: SandboxError.self) { try tree.collect(tenant: String(repeating: "é", count: 100)) }
    #expect(throws: SandboxError.self) { try tree.collect(tenant: "") }
    #expect(throws: SandboxError.self) { try tree.collect(tenant: "a", job: "") }
  }

  @Test func aMissingRootIsNamed() throws {
    let tree = try Tree()
    rmdir(tree.approvedRoot)
    let error = try #require(throws: SandboxError.self) { try tree.collect() }
    #expect(error.errno == ENOENT)
    #expect(error.fix != nil)
  }

  @Test func stalePendingIsSweptAndLivePendingIsNot() throws {
    let tree = try Tree()
    try tree.write("x", "x")
    let live = try tree.collect()
    let stale = tree.approvedRoot + "/.pending/00112233445566778899aabbccddeeff"
    try makeDirectories(stale + "/dir", mode: 0o700)
    try tree.scratch.file("approved/.pending/00112233445566778899aabbccddeeff/dir/half", "half")
    Outputs.removeStalePending(approvedRoot: tree.approvedRoot)
    #expect(!exists(stale))
    #expect(tree.pending.count == 1)
    #expect(try live.publish() != nil)
  }
}
