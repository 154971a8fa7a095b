import Foundation
import Glibc
import Testing

@testable import Identity

@Suite struct KeyDirectoryTests {
  private func files(_ scene: Scene) throws -> Set<String> {
    Set(try FileManager.default.contentsOfDirectory(atPath: scene.keys.path))
  }

  private func mode(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
  }

  @Test func onlyTheOwnerMayUseWhatIsMade() throws {
    let scene = try Scene([.es256, .rs256])
    #expect(try mode(scene.keys.path) == 0o700)
    let names = try files(scene)
    #expect(names.count == 5 && names.contains("keys.json"))
    for name in names { #expect(try mode(scene.keys.path + "/" + name) == 0o600, "\(name)") }
  }

  @Test("a rotation erases the retired private half, and what one that was cut off has left")
  func rotation() throws {
    let scene = try Scene(at: .noon)
    let before = try scene.keys.ring()
    let old = try #require(before.current(.es256)).kid
    for stray in ["cut-off.pem", "keys.json.new"] {
      try Data("x".utf8).write(to: URL(fileURLWithPath: scene.keys.path + "/" + stray))
    }
    try scene.keys.rotate(.es256, at: .noon + 300, grace: 300)
    let after = try scene.keys.ring()
    #expect(after.keys.contains { $0.kid == old && $0.state == .retired })
    #expect(try files(scene) == Set(after.signing.map { $0.kid + ".pem" } + ["keys.json"]))
    #expect(try scene.keys.signingKey(.es256).publicKey.id != old)
  }

  @Test(
    "what others may read or write is refused, with the fix",
    arguments: [("", 0o750), ("/keys.json", 0o640), (".pem", 0o604)])
  func modes(name: String, mode: Int) async throws {
    let scene = try Scene()
    let kid = try #require(try scene.keys.ring().current(.es256)).kid
    let path = scene.keys.path + (name == ".pem" ? "/\(kid).pem" : name)
    #expect(chmod(path, mode_t(mode)) == 0)
    let refused = try #require(try await problem(FileProblem.self) { _ = try await scene.token() })
    #expect(
      refused.description.contains("has mode 0\(String(mode, radix: 8))")
        && refused.description.contains("(fix: chmod "))
  }

  @Test func anotherOwnersFileIsRefused() async throws {
    try #require(geteuid() == 0, "the suite is run as root")
    let scene = try Scene()
    #expect(chown(scene.keys.path + "/keys.json", 65_534, 65_534) == 0)
    let refused = try #require(try await problem(FileProblem.self) { _ = try scene.keys.ring() })
    #expect(refused.description.contains("belongs to uid 65534"))
  }

  @Test("a link, a pipe or a directory in a key's place is not read", arguments: ["link", "pipe", "directory"])
  func otherKinds(kind: String) async throws {
    let scene = try Scene()
    let path = scene.keys.path + "/keys.json"
    let aside = scene.keys.path + "/aside"
    #expect(rename(path, aside) == 0)
    switch kind {
    case "link": #expect(symlink(aside, path) == 0)
    case "pipe": #expect(mkfifo(path, 0o600) == 0)
    default: #expect(mkdir(path, 0o700) == 0)
    }
    #expect(try await problem(FileProblem.self) { _ = try scene.keys.ring() } != nil)
  }

  @Test("a private half under another key's name signs nothing")
  func swapped() async throws {
    let scene = try Scene()
    let entries = try scene.keys.ring().keys
    let names = entries.map { scene.keys.path + "/" + $0.kid + ".pem" }
    #expect(rename(names[1], names[0]) == 0)
    #expect(try await problem(KeyRingProblem.self) { _ = try await scene.token() } == .otherKey(kid: entries[0].kid))
  }

  @Test func initialisingTwiceAddsAnAlgorithmAndReplacesNone() async throws {
    let scene = try Scene()
    let before = try scene.keys.ring()
    #expect(
      try await problem(KeyRingProblem.self) { try scene.keys.initialise([.es256], at: .now, grace: 300) }
        == .exists(.es256))
    try scene.keys.initialise([.rs256], at: .now, grace: 300)
    let after = try scene.keys.ring()
    #expect(after.keys.prefix(2).map(\.kid) == before.keys.map(\.kid) && after.algorithms == [.es256, .rs256])
  }

  @Test("rotations at the same time leave one key of each state, and each private half where it is needed")
  func concurrent() async throws {
    let scene = try Scene(at: .noon)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 1...8 {
        group.addTask {
          try scene.keys.rotate(.es256, at: .noon + Double(number), grace: 300, compromised: true)
        }
        group.addTask { _ = try await scene.token() }
      }
      try await group.waitForAll()
    }
    let ring = try scene.keys.ring()
    #expect(ring.keys.map(\.state).sorted { $0.rawValue < $1.rawValue } == [.current, .next])
    #expect(try files(scene) == Set(ring.keys.map { $0.kid + ".pem" } + ["keys.json"]))
  }

  @Test func noKeysAreSaidToBeNone() async throws {
    let none = KeyDirectory(path: NSTemporaryDirectory() + "cordon-issuer-\(UUID().uuidString)")
    let refused = try #require(try await problem(FileProblem.self) { _ = try none.ring() })
    #expect(refused.description.contains("cordon issuer init"))
  }

  @Test("a secret's file is guarded as keys are, and white space at its end is not of it")
  func secret() async throws {
    let path = NSTemporaryDirectory() + "cordon-secret-\(UUID().uuidString)"
    defer { unlink(path) }
    #expect(FileManager.default.createFile(atPath: path, contents: Data("s3cret \r\n".utf8)))
    #expect(chmod(path, 0o644) == 0)
    #expect(try await problem(FileProblem.self) { _ = try GuardedFile.secret(path) } != nil)
    #expect(chmod(path, 0o600) == 0)
    #expect(try GuardedFile.secret(path) == Array("s3cret".utf8))
  }
}
