import Credentials
import Foundation
import Identity
import Postgres
import Testing

@testable import Worker

/// What a worker knows of its own login, whatever answer is lost.
@Suite("A worker's identity") struct WorkerIdentityTests {
  private static let role = "cordon_join_0123456789abcdef"

  private func enrolled() throws -> WorkerIdentity {
    var identity = WorkerIdentity(
      becoming: try #require(JoinToken(role: Self.role, password: LoginPassword())), password: LoginPassword())
    identity.enrolled()
    return identity
  }

  @Test("a token is what its text says, and names whom it makes")
  func token() throws {
    let token = try #require(JoinToken(role: Self.role, password: LoginPassword()))
    let read = try #require(JoinToken(token.text))
    #expect(read.text == token.text && token.text.hasPrefix("cordon-join_0123456789abcdef_"))
    #expect(read.login.user == Self.role && read.login.password == token.password.text)
    #expect(read.worker == "cordon_worker_0123456789abcdef")
  }

  @Test(
    "what is no token is none",
    arguments: [
      "", "cordon-join_", "cordon-join_0123456789abcdef_", "cordon-join_0123456789abcdef_short",
      "cordon-join_0123456789abcdeF_" + String(repeating: "a", count: 43),
      "cordon-join_0123456789abcde_" + String(repeating: "a", count: 43),
      "cordon-join_0123456789abcdef_" + String(repeating: "a", count: 44),
      "cordon-join_0123456789abcdef_" + String(repeating: "a", count: 42) + "'",
      "cordon-join_\u{E9}123456789abcde_" + String(repeating: "a", count: 43),
    ])
  func noToken(_ text: String) { #expect(JoinToken(text) == nil) }

  @Test("a login of another kind makes no token", arguments: ["cordon_worker_0123456789abcdef", "postgres", ""])
  func otherRole(_ role: String) { #expect(JoinToken(role: role, password: LoginPassword()) == nil) }

  @Test("two passwords differ, and a verifier holds neither it nor another's salt")
  func passwords() {
    let (one, other) = (LoginPassword(), LoginPassword())
    #expect(one.text != other.text && LoginPassword(one.text) != nil)
    #expect(!one.verifier().contains(one.text) && one.verifier() != one.verifier())
  }

  @Test("a password counts once the database has confirmed it, and no sooner")
  func confirmed() throws {
    var identity = try enrolled()
    let before = identity.login
    let next = identity.renewing(with: LoginPassword())
    #expect(identity.login == before)
    identity.renewed()
    #expect(identity.login.password == next.text && identity.login.user == before.user)
  }

  @Test("a renewal whose answer was lost asks for the same again, and either password is tried")
  func lostAnswer() throws {
    var identity = try enrolled()
    let before = identity.login.password
    let next = identity.renewing(with: LoginPassword())
    #expect(identity.renewing(with: LoginPassword()).text == next.text)
    // A process that died here knows as much from its file.
    var again = try JSONDecoder().decode(WorkerIdentity.self, from: try JSONEncoder().encode(identity))
    #expect(again == identity && again.login.password == before)
    for password in [next.text, before, next.text] {
      let isAnother = again.wasRefused()
      #expect(isAnother && again.login.password == password)
    }
    again.renewed()
    #expect(again.login.password == next.text && again.isEnrolled)
    let isAnother = again.wasRefused()
    #expect(!isAnother, "there is one, and it was refused")
  }

  @Test("who did not hear that it enrolled is enrolled by its first renewal")
  func unheard() throws {
    var identity = WorkerIdentity(
      becoming: try #require(JoinToken(role: Self.role, password: LoginPassword())), password: LoginPassword())
    let asked = try #require(identity.enrolling)
    #expect(!identity.isEnrolled && identity.login.password == asked.text)
    _ = identity.renewing(with: LoginPassword())
    identity.renewed()
    #expect(identity.isEnrolled)
  }

  @Test(
    "half of a life is left to try again, by a clock that counts from before it was asked",
    arguments: [5, 20, 3_600, 604_800.0])
  func pace(seconds: Double) {
    let asked = ContinuousClock.now
    let pace = IdentityPace(asked: asked, seconds: seconds)
    #expect(pace.renewal - asked == .seconds(seconds / 2) && pace.end - asked == .seconds(seconds))
    #expect((pace.end - pace.renewal) / pace.pause >= 9, "several tries fit")
    #expect((.milliseconds(200) ... .seconds(30)).contains(pace.pause))
  }

  private static let rules = PostgresError(
    .connection, #"FATAL:  no pg_hba.conf entry for host "::1", user "w", database "jobs", no encryption"#,
    sqlState: "28000")
  private static let incapable = PostgresError(
    .server, "enrolment: this database may not make logins", sqlState: "42501", hint: "run `cordon migrate` once")

  @Test("rules of a standby, and rights that a database has lost, end no identity; what bars it does")
  func barred() {
    for error in [Self.rules, Self.incapable, PostgresError(.connection, "password", sqlState: "28P01")] {
      #expect(!IdentityKeeper.isBarred(error) && !Worker.isBarredLogin(error), "\(error)")
      #expect(IdentityKeeper.isRefusal(error), "at a start somebody must do something")
    }
    let login = PostgresError(.connection, #"FATAL:  role "w" is not permitted to log in"#, sqlState: "28000")
    #expect(IdentityKeeper.isBarred(login) && Worker.isBarredLogin(login))
    #expect(IdentityKeeper.isBarred(PostgresError(.server, "identity: w is revoked", sqlState: "CD403")))
    let away = PostgresError(.connection, "the database system is starting up", sqlState: "57P03")
    #expect(!IdentityKeeper.isBarred(away) && !IdentityKeeper.isRefusal(away))
  }

  @Test("what a refusal is mended by is the database's own word where it has one")
  func fixes() {
    #expect(IdentityKeeper.fix(of: Self.incapable) == "run `cordon migrate` once")
    #expect(IdentityKeeper.fix(of: Self.rules)?.contains("pg_hba.conf") == true)
    #expect(IdentityKeeper.fix(of: PostgresError(.connection, "password", sqlState: "28P01")) == nil)
    let named = WorkerError.barred("w is revoked", fix: "take another name")
    #expect(named.description.hasSuffix("(fix: take another name)"))
    #expect(WorkerError.barred("w is revoked", fix: nil).description.contains("--join TOKEN-FILE"))
  }

  @Test("a host that has nothing yet gets the directory of the identity, for its owner alone")
  func fresh() throws {
    let above = FileManager.default.temporaryDirectory.appending(path: "cordon-identity-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: above) }
    let file = try IdentityFile(path: above + "/cordon/identity")
    try file.write(try enrolled())
    #expect(try file.read() != nil)
    for directory in [above, above + "/cordon"] {
      #expect(try FileManager.default.attributesOfItem(atPath: directory)[.posixPermissions] as? Int == 0o700)
    }
    // What was there stays as it is.
    chmod(above, 0o755)
    _ = try IdentityFile(path: above + "/other")
    #expect(try FileManager.default.attributesOfItem(atPath: above)[.posixPermissions] as? Int == 0o755)
  }

  @Test("the file is its owner's alone, whole, and no other's")
  func file() throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "cordon-identity-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: directory) }
    let file = try IdentityFile(path: directory.path + "/identity")
    let second = #expect(throws: FileProblem.self) { try IdentityFile(path: file.path) }
    #expect(second?.description.contains("each its own") == true)
    #expect(try file.read() == nil)
    var identity = try enrolled()
    try file.write(identity)
    #expect(try file.read() == identity)
    #expect(try FileManager.default.attributesOfItem(atPath: file.path)[.posixPermissions] as? Int == 0o600)
    _ = identity.renewing(with: LoginPassword())
    try file.write(identity)
    #expect(try file.read() == identity)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: directory.path)
        .sorted() == ["identity", "identity.lock"])

    chmod(file.path, 0o640)
    let open = #expect(throws: FileProblem.self) { try file.read() }
    #expect(open?.description.contains("chmod 0600") == true)
    chmod(file.path, 0o600)
    try Data("{}".utf8).write(to: URL(fileURLWithPath: file.path))
    let empty = #expect(throws: IdentityProblem.self) { try file.read() }
    #expect(empty?.description.contains("--join") == true)
    try FileManager.default.removeItem(atPath: file.path)
    symlink("/etc/hostname", file.path)
    #expect(throws: FileProblem.self) { try file.read() }
    // A new file in the link's place, and not behind it.
    try file.write(identity)
    #expect(try file.read() == identity)
    #expect(throws: FileProblem.self) { try GuardedFile.New(file.path) }
  }
}
