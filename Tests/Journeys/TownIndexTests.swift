import Foundation
import TestKit
import Testing

extension TownTests {
  @Test("pip downloads by hash, with what a package needs")
  func downloads() async throws {
    let town = try await Self.shared.value
    let index = try await town.index()
    let place = town.directory.appending(path: "pip-\(UUID().uuidString)")
    let answer = try await pip(
      town, url: index.url, try index.requirements(["parting==1.0", "greeting==1.1"]), to: place)
    #expect(answer.status == 0, "\(answer.stderr)")
    let wheels = try FileManager.default.contentsOfDirectory(atPath: place.path + "/wheels").sorted()
    #expect(wheels == ["greeting-1.1-py3-none-any.whl", "parting-1.0-py3-none-any.whl"])
    let program = "import sys; sys.path[:0] = sys.argv[1:]; import parting; print(parting.part('Ada'))"
    let spoken = try await python(town, program, wheels.map { "\(place.path)/wheels/\($0)" })
    #expect(spoken.text == "good day, Ada and goodbye\n", "\(spoken.stderr)")
    try await eventually("the index has recorded it") {
      (try? index.requests())?.contains { $0.method == "GET" && $0.path.hasSuffix("parting-1.0-py3-none-any.whl") }
        == true
    }
  }

  @Test("pip refuses a package whose bytes are not those of the hash")
  func otherHash() async throws {
    let town = try await Self.shared.value
    let index = try await town.index()
    let place = town.directory.appending(path: "pip-\(UUID().uuidString)")
    let wrong = "greeting==1.0 --hash=sha256:\(String(repeating: "0", count: 64))\n"
    let answer = try await pip(town, url: index.url, wrong, to: place)
    #expect(answer.status != 0 && answer.stderr.contains("DO NOT MATCH THE HASHES"), "\(answer.stderr)")
  }

  @Test("nothing can be uploaded to the index")
  func upload() async throws {
    let town = try await Self.shared.value
    _ = try await town.index()
    let upload = try await ask(
      town, ["--form", ":action=file_upload", "--form", "content=@/etc/hostname", "https://pypi.internal/"])
    #expect(upload.status == "401" || upload.status == "403", "\(upload)")
  }

  @Test("an index that demands a credential refuses who has none, and records what was sent")
  func demanded() async throws {
    let town = try await Town()
    let basic = "Basic " + Data("mirror:town".utf8).base64EncodedString()
    let index = try await town.index(demanding: basic)
    #expect(try await ask(town, [index.url]).status == "401")
    #expect(try await ask(town, ["--user", "mirror:wrong", index.url]).status == "401")
    #expect(try await ask(town, ["--user", "mirror:town", index.url]).status == "200")
    try await eventually("all three are recorded") { (try? index.requests().count) == 3 }
    #expect(try index.requests().map(\.authorization).last == basic)
    let place = town.directory.appending(path: "pip")
    let lines = try index.requirements(["greeting==1.0"])
    #expect(try await pip(town, url: index.url, lines, to: place).status != 0)
    let url = index.url.replacing("https://", with: "https://mirror:town@")
    let answer = try await pip(town, url: url, lines, to: place)
    #expect(answer.status == 0, "\(answer.stderr)")
    await #expect(throws: Problem.self) { try await town.index() }
    await town.close()
  }

  @Test("a bearer's token is demanded as well")
  func bearer() async throws {
    let town = try await Town()
    await #expect(throws: Problem.self) { try await town.index(demanding: "Bearer $http_cookie") }
    let index = try await town.index(demanding: "Bearer town-token")
    #expect(try await ask(town, ["--header", "Authorization: Bearer other", index.url]).status == "401")
    #expect(try await ask(town, ["--header", "Authorization: Bearer town-token", index.url]).status == "200")
    await town.close()
  }
}
