import Glibc
import Jobs
import Kernel
import Synchronization
import Testing

@testable import Sandbox

/// What a tree may cost: its shape, its names, the time it takes.
@Suite("Output bounds") struct OutputBoundsTests {
  @Test func depthIsBounded() throws {
    let tree = try Tree()
    var path = tree.output
    for level in 1...40 {
      path += "/d"
      try makeDirectories(path, mode: 0o755)
      try tree.scratch.file(String(path.dropFirst(tree.scratch.path.count + 1)) + "/f", "\(level)")
    }
    let collected = try tree.collect()
    #expect(collected.artifacts.count == 32)
    #expect(collected.quarantined.map(\.reason) == ["too_deep"])
  }

  @Test func pathsAreBounded() throws {
    let tree = try Tree()
    let name = String(repeating: "n", count: 250)
    let path = Array(repeating: name, count: 4).joined(separator: "/")
    try makeDirectories(tree.output + "/" + path, mode: 0o755)
    try tree.write(path + "/" + String(repeating: "x", count: 100), "x")
    try tree.write(path + "/y", "y")
    let collected = try tree.collect()
    #expect(collected.artifacts.map(\.bytes) == [1])
    #expect(collected.quarantined.map(\.reason) == ["name"])
    #expect(collected.quarantined[0].path.utf8.count <= 1_024)
  }

  @Test("CR-13: of a secret that lies where a path is cut nothing is listed")
  func screenedBeforeTheCut() throws {
    let tree = try Tree()
    let path = Array(repeating: String(repeating: "n", count: 250), count: 4).joined(separator: "/")
    try makeDirectories(tree.output + "/" + path, mode: 0o755)
    for beyond in 1...5 {
      try tree.write(path + "/" + String(repeating: "x", count: 1_024 - 1_004 - beyond) + "canary", "x")
    }
    let screen = OutputScreen {
      { _ in false }
    } conceal: {
      Array(String(decoding: $0, as: UTF8.self).replacing("canary", with: "[gone]").utf8)
    }
    let listed = try tree.collect(screen: screen).quarantined.map(\.path)
    #expect(listed.count == 5 && listed.allSatisfy { $0.utf8.count == 1_024 && !$0.contains("xc") }, "\(listed)")
  }

  @Test func entriesAreBounded() throws {
    let tree = try Tree()
    try makeDirectories(tree.output + "/many", mode: 0o755)
    for index in 0..<500 { try tree.write("many/\(index)", "") }
    let collected = try tree.collect(limits: Limits(outputFiles: 100))
    #expect(collected.artifacts.count == 99)
    #expect(collected.quarantined.map(\.reason).allSatisfy { $0 == "too_many" })
    #expect((1...2).contains(collected.quarantined.count))
    collected.discard()
    #expect(tree.pending.isEmpty)
  }

  @Test func aTreeThatTakesTooLongIsRefusedAsAWhole() throws {
    let tree = try Tree()
    try tree.write("a", "a")
    try tree.write("b", "b")
    try tree.scratch.file("result/result.json", "1")
    let past = ContinuousClock.now - OutputWalk.patience
    let late = try tree.collect(now: past)
    #expect(late.artifacts.isEmpty && late.outputBytes == 0)
    #expect(late.quarantined.map(\.reason) == ["too_slow"])
    #expect(late.outputsProblem?.hasPrefix("outputs_refused: ") == true)
    #expect(late.result == .integer(1), "the result is a file of its own")
    #expect(late.destination == nil)
    #expect(try late.publish() == nil)
    // The time passes in the middle: what was copied by then is no output either.
    let half = try tree.collect(now: past + .milliseconds(300)) { name in
      if name == Array("b".utf8) { usleep(400_000) }
    }
    #expect(half.artifacts.isEmpty && half.outputBytes == 0)
    #expect(half.quarantined.map(\.reason) == ["too_slow"])
    half.discard()
    #expect(tree.pending.isEmpty)
    let good = try tree.collect()
    #expect(good.outputsProblem == nil)
    #expect(good.artifacts.count == 2)
    good.discard()
  }

  @Test func refusedEntriesAreListedUpToABoundAndThenCounted() throws {
    let tree = try Tree()
    for index in 0..<1_500 { symlink("x", tree.output + "/\(index)") }
    try tree.write("~last", "good")
    let collected = try tree.collect(limits: Limits(outputFiles: 10_000))
    #expect(collected.quarantined.count == OutputWalk.maximumRefused + 1)
    #expect(collected.quarantined.last == Quarantined(path: "\u{2026} and 500 more", reason: "too_many"))
    #expect(collected.artifacts.map(\.path) == ["~last"], "what is good is still published")
    #expect(collected.outputsProblem == nil)
    collected.discard()
  }

  /// Names that in the record would take twice the budget; 65 500 of them would be 180 MB, and took minutes.
  @Test func namesAreBoundedInAll() throws {
    let tree = try Tree()
    var path = tree.output
    for _ in 0..<3 { path += "/" + String(repeating: "\u{E000}", count: 80) }
    try makeDirectories(path, mode: 0o755)
    let directory = try Descriptor.directory(path)
    for index in 0..<5_000 {
      let name = [UInt8](repeating: 0xFF, count: 240) + Array("\(index)".utf8)
      _ = try directory.open(beneath: name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
    }
    let started = ContinuousClock.now
    let collected = try tree.collect(limits: Limits(outputFiles: 65_536))
    #expect(ContinuousClock.now - started < OutputWalk.patience)
    #expect(collected.artifacts.isEmpty && collected.outputBytes == 0)
    #expect(collected.quarantined.map(\.reason) == ["too_many"])
    #expect(collected.outputsProblem?.hasPrefix("outputs_refused: ") == true)
    collected.discard()
    #expect(tree.pending.isEmpty)
  }

  @Test func collectionIsCancelled() throws {
    let tree = try Tree()
    try tree.scratch.file("output/big", String(repeating: "b", count: 4 << 20))
    // Before any entry, and between the chunks of one file.
    for answers in [0, 3] {
      let asked = Mutex(0)
      let error = try #require(throws: SandboxError.self) {
        try tree.collect(isCancelled: {
          asked.withLock {
            $0 += 1
            return $0 > answers
          }
        })
      }
      #expect(error == SandboxError(stage: "collect", message: "cancelled"))
      #expect(asked.withLock { $0 } == answers + 1)
      #expect(tree.pending.isEmpty)
    }
  }
}
