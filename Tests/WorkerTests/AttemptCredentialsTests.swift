import Broker
import Credentials
import Destinations
import Foundation
import Jobs
import Logging
import Sandbox
import Store
import Synchronization
import Testing

@testable import Worker

/// What an attempt is given, and that all of it is looked for in what comes out.
@Suite("The credentials of an attempt") struct AttemptCredentialsTests {
  private static func json(_ text: String) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
  }

  private static func grant(_ credential: String) throws -> Grant {
    try Grant(
      name: "api",
      json: json(#"{"host":"api.internal","port":443,"mode":"http","allow":["GET /"],"credential":"\#(credential)"}"#))
  }

  private static let address = AttemptAddress(job: "job", attempt: 1, token: 7, tenant: "local")

  private static func credentials(
    _ sources: [String: String], tokens: AttemptCredentials.TokenMaker? = nil
  ) throws -> AttemptCredentials {
    let definitions = sources.map { name, source in
      #""\#(name)": {"tenants": ["local"], "queues": ["default"], "source": \#(source), "inject": {"bearer": true}}"#
    }
    let keeper = try CredentialKeeper(CredentialDefinition.all(json("{\(definitions.joined(separator: ", "))}")))
    let claim = Claim(
      job: try #require(JobID("018f0000-0000-7000-8000-000000000001")), attempt: 1, token: 7, tenant: "local",
      queue: "default", enqueuedBy: "ada", specification: nil, specificationError: nil, limits: Limits(),
      policy: try #require(Digest("sha256:" + String(repeating: "0", count: 64))), policyDocument: "{}")
    return AttemptCredentials(
      keeper: keeper, claim: claim, logger: Logger(label: "test"), give: { _, _, _, _ in true }, tokens: tokens)
  }

  /// Makes tokens slowly, each another.
  private final class Maker: Sendable {
    let made = Mutex<[String]>([])

    var maker: AttemptCredentials.TokenMaker {
      AttemptCredentials.TokenMaker(
        judge: { _ in },
        make: { _ throws(CredentialError) in
          await Task.yield()
          let token = self.made.withLock { made in
            made.append("made-token-\(made.count)-\(UUID().uuidString)")
            return made[made.count - 1]
          }
          return try Secret(token, version: "\(token.prefix(20))")
        })
    }
  }

  @Test("CR-13: of one token that many connections ask for at once one is made", arguments: [false, true])
  func atOnce(isDelegation: Bool) async throws {
    let maker = Maker()
    let source = #"{"workload_token": {"audience": "https://api.internal", "delegation": \#(isDelegation)}}"#
    let credentials = try Self.credentials(["api": source], tokens: maker.maker)
    let grant = try Self.grant("api")
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<64 {
        group.addTask { _ = try #require(await credentials.injection(for: grant, attempt: Self.address)) }
      }
      try await group.waitForAll()
    }
    let made = maker.made.withLock { $0 }
    // A delegation is asked for anew by whoever comes later, since it may be withdrawn at any moment.
    if !isDelegation { #expect(made.count == 1) }
    #expect(made.count < 64)
    for token in made { #expect(credentials.redact("a \(token) b") == "a [redacted:api] b") }
  }

  @Test("CR-13: every token that was made is looked for as long as it is good, however many there are")
  func many() async throws {
    let maker = Maker()
    let source = #"{"workload_token": {"audience": "https://api.internal", "delegation": true}}"#
    let credentials = try Self.credentials(["api": source], tokens: maker.maker)
    for _ in 0..<20 { _ = try await credentials.injection(for: Self.grant("api"), attempt: Self.address) }
    let made = maker.made.withLock { $0 }
    #expect(made.count == 20)
    for token in made { #expect(credentials.redact(token) == "[redacted:api]") }
  }

  @Test("what is too much to be looked for is refused before it is used, and the rest is still looked for")
  func tooMuch() async throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "cordon-credentials-\(UUID())")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    func write(_ name: String, _ text: String) throws -> String {
      let path = directory.appending(path: name).path
      let isMade = FileManager.default.createFile(
        atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
      try #require(isMade)
      return #"{"file": "\#(path)"}"#
    }
    let large = (0..<9_000).map { "\($0)/+" }.joined()
    let credentials = try Self.credentials(["small": write("small", "small-secret"), "large": write("large", large)])
    _ = try await credentials.injection(for: Self.grant("small"), attempt: Self.address)
    let error = await #expect(throws: CredentialError.self) {
      try await credentials.injection(for: Self.grant("large"), attempt: Self.address)
    }
    #expect(error?.kind == .unusable && error?.reason.contains("are looked for") == true, "\(error as Any)")
    #expect(credentials.redact("small-secret") == "[redacted:small]")
    #expect(credentials.redact(.string("small-secret")) == .string("[redacted:small]"))
  }

  @Test("CR-13: of what pip says the end is cut after a credential was taken out, and none is in a file's name")
  func fetched() async throws {
    let maker = Maker()
    let source = #"{"workload_token": {"audience": "https://api.internal"}}"#
    let credentials = try Self.credentials(["api": source], tokens: maker.maker)
    _ = try await credentials.injection(for: Self.grant("api"), attempt: Self.address)
    let token = maker.made.withLock { $0[0] }
    for beyond in 1..<token.utf8.count {
      var words = PipWords()
      let line = "\n" + String(repeating: "x", count: 20) + token
      let before = String(repeating: "y", count: (16 << 10) - line.utf8.count + beyond)
      words.take(OutputChunk(stream: "stderr", bytes: Array((before + line).utf8)), credentials.search)
      let last = words.last()
      #expect(last.hasPrefix("xxxx") && !last.contains("made-"), "\(last)")
    }
    let digest = try #require(Digest("sha256:" + String(repeating: "0", count: 64)))
    func names(_ name: String) throws {
      try AttemptRun.refuseSecrets(
        inNamesOf: [InputFacts(name: name, sha256: digest, bytes: 1)], credentials.search?.redactor)
    }
    try names("greeting-1.0-py3-none-any.whl")
    let refusal = #expect(throws: Refusal.self) { try names("\(token).whl") }
    #expect(refusal?.reason.hasSuffix("holds a credential: [redacted:api].whl") == true)
  }
}
