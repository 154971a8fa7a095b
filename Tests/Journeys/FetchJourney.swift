import Foundation
import Jobs
import TestKit
import Testing

/// Packages of a locked list from a real index (pypiserver behind nginx), fetched with the network and without the job's code, and
/// used by a job that has none.
@Suite("Journey: what is fetched before a job runs", .serialized)
struct FetchJourney {
  private struct Place: Sendable {
    let town: Town
    let index: Town.Index
    let house: House

    static let shared = Task { try await Place() }

    init() async throws {
      town = try await Town()
      _ = try await town.dns()
      index = try await town.index(demanding: "Bearer index-token-1234")
      let directory = town.directory.path
      let files = (token: "\(directory)/index-token", credentials: "\(directory)/credentials.yaml")
      _ = FileManager.default.createFile(
        atPath: files.token, contents: Data("index-token-1234".utf8), attributes: [.posixPermissions: 0o600])
      try """
      index:
        tenants: [local]
        queues: [default]
        source: {file: \(files.token)}
        inject: {bearer: true}
      """.write(toFile: files.credentials, atomically: true, encoding: .utf8)
      house = try await House(
        slots: 2, options: ["--credentials", files.credentials, "--egress-trust", town.certificates.caFile],
        through: town.place.through)
      guard var policy = try await house.tool.run(["policy", "show", "--json"]).json()["document"]?.object else {
        throw Problem("no policy")
      }
      let grants = """
        {"packages": {"host": "pypi.internal", "port": 443, "mode": "http", "phase": "fetch", "credential": "index",
          "allow": ["GET /simple/*/", "GET /packages/**"], "allow_private": ["\(town.block)"]},
         "running": {"host": "other.internal", "port": 443, "mode": "opaque", "allow_private": ["\(town.block)"]}}
        """
      policy["grants"] = try JSONDecoder().decode(JSONValue.self, from: Data(grants.utf8))
      let set = try await Tool(url: house.superuser).run(
        ["policy", "set", "-"], stdin: Array(try JSONEncoder().encode(JSONValue.object(policy))))
      guard set.status == 0 else { throw Problem(set.stderr) }
    }

    func run(_ list: String, _ code: String, grants: [String] = []) async throws -> (record: JSONValue, text: String) {
      let file = FileManager.default.temporaryDirectory.appending(path: "list-\(UUID())").path
      try list.write(toFile: file, atomically: true, encoding: .utf8)
      defer { try? FileManager.default.removeItem(atPath: file) }
      let job = try await house.tool.enqueue(
        ["--fetch", "packages=\(file)"] + grants.flatMap { ["--grant", $0] } + ["--runtime", "bash", "--code", code])
      let record = try await house.tool.wait(for: job) { $0["state"] == .string("finished") }
      return (record, try await house.tool.run(["logs", job]).text)
    }
  }

  @Test(
    "a locked list comes as read-only files with their digests on record; the job installs from them and reaches nothing"
  )
  func fetched() async throws {
    let place = try await Place.shared.value
    let list = try place.index.requirements(["greeting==1.0", "parting==1.0"])
    let (record, text) = try await place.run(
      list,
      """
      ls /input
      known=index-token; echo "said $known-1234"
      pip=/usr/lib/python3/dist-packages/pip; [ -d $pip ] && pip="-m pip" || pip=$(ls /usr/share/python-wheels/pip-*.whl)/pip
      python3 $pip install --quiet --no-index --find-links /input --no-deps --target /tmp/site --root-user-action ignore greeting parting 2>&1
      PYTHONPATH=/tmp/site python3 -c 'import greeting, parting; print("imported")' 2>&1
      (exec 3<>/dev/tcp/pypi.internal/80) 2>&1 | grep -c 'not known\\|ermitted'
      (exec 3<>/dev/tcp/127.0.0.2/80) 2>&1 | grep -q ermitted && echo no network
      """)
    #expect(record["outcome"] == .string("succeeded"), "\(record["reason"] ?? .null) \(text)")
    let lines = text.split(separator: "\n").map(String.init)
    #expect(lines.count { $0.hasSuffix(".whl") } == 2 && lines.last == "no network", "\(text)")
    #expect(lines.contains("imported"), "\(text)")
    let inputs = record["attribution"]?["inputs"]?.array ?? []
    #expect(inputs.count == 2)
    for input in inputs { #expect(list.contains(input["sha256"]?.string ?? "?"), "\(input)") }
    let egress = record["attribution"]?["isolation"]?["egress"]
    #expect(egress?["grants"]?.array?.compactMap(\.string) == ["packages"])
    let whole = try await place.house.tool.run(["egress", record["job"]?.string ?? ""])
    #expect(whole.status == 0 && whole.stderr.contains("whole"), "\(whole.stderr)")
    #expect(whole.text.contains("GET /simple/greeting/"))
    // The index demands a credential, which stood in no cell. A job that has it from elsewhere does not get it into its output.
    #expect(lines.contains("said [redacted:index]"), "\(text)")
    #expect(!text.contains("index-token-1234") && !"\(record)".contains("index-token-1234"))
  }

  @Test(
    "a file with another digest than the list's, a list that is none, a package that is not there: refused, and no code ran"
  )
  func refused() async throws {
    let place = try await Place.shared.value
    let other = "sha256:" + String(repeating: "0", count: 64)
    let wrong = try await place.run("greeting==1.0 --hash=\(other)\n", "echo ran")
    #expect(wrong.record["outcome"] == .string("refused") && wrong.text.isEmpty, "\(wrong.record)")
    #expect(wrong.record["reason"]?.string?.hasPrefix("fetch: pip ended") == true)
    let option = try await place.run("--index-url http://evil/ --hash=\(other)\n", "echo ran")
    #expect(option.record["reason"]?.string?.hasPrefix("fetch.pip: line 1: ") == true, "\(option.record)")
    let absent = try await place.run("absent==1.0 --hash=\(other)\n", "echo ran")
    #expect(absent.record["outcome"] == .string("refused") && absent.text.isEmpty)
    let paths = try place.index.requests().map(\.path)
    #expect(paths.contains { $0.hasPrefix("/simple/absent") })
    #expect(!paths.contains { $0.contains("evil") })
  }

  @Test("a grant of phase run fetches nothing, and one of phase fetch is nobody's who runs")
  func phases() async throws {
    let place = try await Place.shared.value
    let list = try place.index.requirements(["greeting==1.0"])
    let document = JSONValue.object([
      "runtime": .string("bash"), "code": .string("true"), "grants": .array([.string("running")]),
      "fetch": .object(["pip": .string(list), "grant": .string("running")]),
    ])
    let refused = try await place.house.tool.run(
      ["enqueue", "--specification", "-"], stdin: Array(try JSONEncoder().encode(document)))
    #expect(refused.status == 4 && refused.stderr.contains("not granted for fetching"), "\(refused.stderr)")
    let job = try await place.house.tool.enqueue([
      "--grant", "packages", "--runtime", "bash", "--code", "cat /etc/hosts; (exec 3<>/dev/tcp/127.0.0.2/80) 2>&1",
    ])
    _ = try await place.house.tool.wait(for: job) { $0["state"] == .string("finished") }
    let text = try await place.house.tool.run(["logs", job]).text
    #expect(!text.contains("pypi") && text.contains("ermitted"), "\(text)")
  }
}
