import Jobs
import Testing

@Suite("A locked list of packages") struct LockedRequirementsTests {
  private static let digest = "sha256:" + String(repeating: "ab", count: 32)

  @Test("names, versions and digests are read over continued lines and comments, and written in one spelling")
  func read() throws {
    let list = try LockedRequirements(
      "# locked\ngreeting==1.0 \\\n    --hash=\(Self.digest) \\\n    --hash=\(Self.digest)\n\nparting==2.0+local.1 --hash=\(Self.digest)\r\n"
    )
    #expect(list.packages.map(\.name) == ["greeting", "parting"])
    #expect(list.packages.map(\.digests.count) == [2, 1])
    #expect(list.digests.count == 1)
    #expect(try LockedRequirements(list.text) == list)
  }

  @Test(
    "what could lead elsewhere, or be anything, is refused with its line",
    arguments: [
      ("greeting==1.0", 1), ("greeting --hash=sha256:00", 1), ("--index-url http://x/", 1), ("-r other.txt", 1),
      ("\n\ngreeting @ http://x/y.whl", 3), ("./greeting.whl", 1), ("greeting==1.0; python_version<'4' --hash=D", 1),
      ("greeting==1.0 --hash=md5:abc", 1), ("greeting==1.0 --hash=D --pre", 1), ("greeting===1.0 --hash=D", 1),
      ("greeting==1.* --hash=D", 1), ("greeting[extra]==1.0 --hash=D", 1), ("greeting==1.0 --hash=D \\", 1),
      ("", 1), ("# nothing", 1), ("greeting==1.0 --hash=D\ngree ting==1.0 --hash=D", 2), ("..==1.0 --hash=D", 1),
      ("$(id)==1.0 --hash=D", 1), ("greeting==-1 --hash=D", 1),
    ])
  func refused(_ text: String, _ line: Int) {
    #expect {
      try LockedRequirements(text.replacing("=D", with: "=\(Self.digest)"))
    } throws: { ($0 as? LockedRequirements.Problem)?.line == line }
  }

  @Test("a list is bounded in bytes and in packages")
  func bounded() {
    let line = "a==1 --hash=\(Self.digest)\n"
    #expect(throws: LockedRequirements.Problem.self) {
      try LockedRequirements(String(repeating: line, count: LockedRequirements.most + 1))
    }
    #expect(throws: LockedRequirements.Problem.self) {
      try LockedRequirements(String(repeating: "# x\n", count: LockedRequirements.longest / 4) + line)
    }
  }
}
