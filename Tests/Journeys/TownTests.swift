import Foundation
import Postgres
import TestKit
import Testing

/// Before a job is sent to these hosts through a broker, they are asked by programs that know nothing of either: what
/// fails then is not theirs. All of them in one town, which ends with the process.
@Suite("The town's hosts answer real clients", .serialized)
struct TownTests {
  static let shared = Task { try await Town() }

  func curl(_ town: Town, _ arguments: [String]) async throws -> Tool.Answer {
    try await town.run(["/usr/bin/curl", "--silent", "--show-error", "--cacert", town.certificates.caFile] + arguments)
  }

  /// The status of a request, and the body.
  func ask(_ town: Town, _ arguments: [String]) async throws -> (status: String, body: String) {
    let answer = try await curl(town, ["--write-out", "\n%{http_code}"] + arguments)
    #expect(answer.status == 0, "\(answer.stderr)")
    let lines = answer.text.split(separator: "\n", omittingEmptySubsequences: false)
    return (String(lines.last ?? ""), lines.dropLast().joined(separator: "\n"))
  }

  func python(_ town: Town, _ code: String, _ arguments: [String] = []) async throws -> Tool.Answer {
    try await town.run([try Town.interpreter, "-I", "-c", code] + arguments)
  }

  func pip(_ town: Town, url: String, _ requirements: String, to place: URL) async throws -> Tool.Answer {
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    let list = place.appending(path: "requirements.txt")
    try requirements.write(to: list, atomically: true, encoding: .utf8)
    return try await town.run(
      [
        try Town.interpreter, "-Im", "pip", "--isolated", "--no-cache-dir", "download", "--require-hashes",
        "--retries", "0", "--index-url", url, "--cert", town.certificates.caFile, "--requirement", list.path, "--dest",
        place.appending(path: "wheels").path,
      ], environment: ["HOME": place.path])
  }

  @Test("a client that does not know the town's authority trusts none of its hosts")
  func certificates() async throws {
    let town = try await Self.shared.value
    let vault = try await town.vault()
    let answer = try await town.run(["/usr/bin/curl", "--silent", "--show-error", vault.url])
    #expect(answer.status == 60, "\(answer.stderr)")
  }

  @Test("what is in the town reaches its own hosts, and nothing beyond its block")
  func noWayOut() async throws {
    let town = try await Self.shared.value
    let vault = try await town.vault()
    let connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    func reach(_ address: String, _ port: String) async throws -> Tool.Answer {
      try await town.runInside(["/usr/bin/python3", "-I", "-c", connect, address, port])
    }
    #expect(try await reach(vault.address, "8200").status == 0)
    for address in ["1.1.1.1", "169.254.169.254", "10.0.0.1"] {
      let answer = try await reach(address, "80")
      #expect(answer.status != 0 && answer.stderr.contains("Network is unreachable"), "\(address): \(answer.stderr)")
    }
  }

  @Test("a worker that is started in the town's place has its resolver, and runs jobs")
  func house() async throws {
    let town = try await Self.shared.value
    let house = try await House(slots: 1, through: town.place.through)
    let seen = "/proc/\(await house.up.process.processIdentifier)/root/etc/resolv.conf"
    let ours = town.directory.path + "/resolv.conf"
    #expect(try String(contentsOfFile: seen, encoding: .utf8) == String(contentsOfFile: ours, encoding: .utf8))
    let answer = try await house.tool.run(["run", "--", "/usr/bin/echo", "from a cell"])
    #expect(answer.status == 0 && answer.text.contains("from a cell"), "\(answer.stderr)")
    try await house.close()
  }

  @Test("a town that is closed leaves no process, no link and no file")
  func closed() async throws {
    let town = try await Town()
    _ = try await town.logs()
    _ = try await town.ledger()
    let number = try #require(town.block.split(separator: ".").dropFirst().first)
    let link = "/sys/class/net/cordon-town\(number)"
    #expect(FileManager.default.fileExists(atPath: link))
    #expect(processes(that: town.directory.path) > 4)
    await town.close()
    #expect(!FileManager.default.fileExists(atPath: link))
    #expect(!FileManager.default.fileExists(atPath: town.directory.path))
    #expect(processes(that: town.directory.path) == 0)
  }

  /// How many name a path on their command lines.
  private func processes(that name: String) -> Int {
    let ids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.filter { Int($0) != nil } ?? []
    return ids.count { id in
      let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") ?? Data()
      return String(decoding: line, as: UTF8.self).contains(name)
    }
  }
}
