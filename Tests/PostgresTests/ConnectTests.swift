import Glibc
import PrivateCluster
import Synchronization
import TestKit
import Testing

@testable import Postgres

private let name = Statement(name: "name", sql: "SELECT current_database() AS name, current_user AS role")

/// What libpq makes of connection settings, on a real server.
@Suite(.database) struct ConnectTests {
  @Test func theFirstHostThatAcceptsWritesIsTaken() async throws {
    let database = Database.current
    let sockets = "/nonexistent-socket-directory,\(database.cluster.socketDirectory)"
    let text = "host=\(sockets) port=5432,5432 dbname=\(database.name) user=postgres target_session_attrs=read-write"
    let connection = try await Connection.connect(ConnectionSettings(text))
    #expect(try await connection.query(name)[0].get("name") == database.name)
    await connection.close()

    try await database.execute("ALTER DATABASE \(database.name) SET default_transaction_read_only = on")
    let error = try await failure { _ = try await Connection.connect(ConnectionSettings(text)) }
    #expect(error.kind == .connection)
    #expect(error.message.contains("read-only"))
  }

  /// Whoever the text names; and who it is by then, each time.
  @Test func aLoginOverridesTheTextAndIsAskedForAnew() async throws {
    let database = Database.current
    let roles = [try await database.makeRole(), try await database.makeRole()]
    let next = Mutex(roles[0])
    let login = { @Sendable in ConnectionSettings.Login(user: next.withLock { $0 }, password: "it is not asked for") }
    let pool = Pool(ConnectionSettings(database.url(), login: login), maximum: 2)
    let seen: [String] = try await pool.withConnection { first in
      let before: String = try await first.query(name)[0].get("role")
      next.withLock { $0 = roles[1] }
      let beside: String = try await pool.withConnection { try await $0.query(name)[0].get("role") }
      return [before, beside, try await first.query(name)[0].get("role")]
    }
    #expect(seen == [roles[0], roles[1], roles[0]], "an open session goes on")
    await pool.close()
    #expect(!"\(login()) \(String(reflecting: login()))".contains("asked"))
    let settings = ConnectionSettings("", login: { .init(user: "a\0b", password: "") })
    let error = try await failure { _ = try await Connection.connect(settings) }
    #expect(error.kind == .settings)
  }

  @Test func aServiceFileIsRead() async throws {
    let database = Database.current
    var template = Array("/tmp/cordon-service-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    try #require(descriptor >= 0)
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { unlink(path) }
    let role = try await database.makeRole()
    let content = """
      [reconciliation]
      host=\(database.cluster.socketDirectory)
      dbname=\(database.name)
      user=\(role)

      """
    #expect(write(descriptor, content, content.utf8.count) == content.utf8.count)
    close(descriptor)
    // In a process of its own: setenv while other threads read the environment is undefined.
    await #expect(processExitsWith: .success) {
      [path = path as String, database = database.name as String, role = role as String] in
      setenv("PGSERVICEFILE", path, 1)
      let connection = try await Connection.connect(ConnectionSettings("service=reconciliation"))
      let row = try await connection.query(name)[0]
      #expect(try row.get("name") == database)
      #expect(try row.get("role") == role)
      let unknown = try await failure { _ = try await Connection.connect(ConnectionSettings("service=unknown")) }
      #expect(unknown.kind == .settings)
      #expect(unknown.message.contains("unknown"))
    }
  }

  @Test func tlsThatTheServerDoesNotOfferIsRefused() async throws {
    // Over TCP: libpq asks for no TLS on a unix socket. The peer answers the request for TLS as a server without.
    let server = try RefusesTLS()
    let text = "host=127.0.0.1 port=\(server.port) dbname=x user=postgres sslmode=require"
    let error = try await failure { _ = try await Connection.connect(ConnectionSettings(text)) }
    #expect(error.kind == .connection)
    #expect(error.message.contains("server does not support SSL, but SSL was required"))
    #expect(error.isConnectionLoss)
    withExtendedLifetime(server) {}
  }

  @Test(arguments: ["host='unclosed", "nonsense=1", "postgresql://[::1", "sslmode=perhaps"])
  func settingsThatMakeNoSenseAreNamed(_ text: String) async throws {
    let error = try await failure { _ = try await Connection.connect(ConnectionSettings(text)) }
    #expect(error.kind == .settings || error.kind == .connection)
    #expect(!error.message.isEmpty && !error.message.contains("\n"))
    if text != "sslmode=perhaps" { #expect(error.kind == .settings) }
  }

  @Test func aRefusedLoginKeepsItsCode() async throws {
    let url = Database.current.url(user: "nobody_of_this_name")
    let error = try await failure { _ = try await Connection.connect(ConnectionSettings(url)) }
    #expect(error.kind == .connection)
    #expect(error.sqlState == "28000")
    #expect(error.message.contains("nobody_of_this_name"))
    #expect(!error.message.contains("LOCATION"))
    #expect(!error.isTransientConnectFailure)
  }

  @Test func aPeerThatNeverAnswersMeetsTheDeadline() async throws {
    let server = try RefusesTLS(answers: false)
    let start = ContinuousClock.now
    let settings = ConnectionSettings("host=127.0.0.1 port=\(server.port) dbname=x user=postgres sslmode=prefer")
    let error = try await failure { _ = try await Connection.connect(settings, deadline: .milliseconds(200)) }
    #expect(error.kind == .deadline)
    #expect(error.isConnectionLoss)
    #expect(ContinuousClock.now - start < .seconds(5))
    let task = Task { _ = try await Connection.connect(settings) }
    try await Task.sleep(for: .milliseconds(50))
    task.cancel()
    #expect(try await failure { try await task.value }.kind == .cancelled)
    withExtendedLifetime(server) {}
  }

  @Test func theApplicationIsNamedUnlessTheSettingsNameIt() async throws {
    let show = Statement(name: "show", sql: "SELECT current_setting('application_name') AS name")
    let plain = try await Database.current.connect()
    #expect(try await plain.query(show)[0].get("name") == "cordon")
    let named = try await Connection.connect(ConnectionSettings(Database.current.url() + "&application_name=mine"))
    #expect(try await named.query(show)[0].get("name") == "mine")
  }

  @Test func droppedConnectionsLeaveNoSession() async throws {
    let database = Database.current
    let observer = try await database.connect()
    let sessions = Statement(
      name: "sessions", sql: "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = $1")
    for _ in 0..<20 {
      let connection = try await Connection.connect(ConnectionSettings(database.url() + "&application_name=dropped"))
      try await connection.query(name)
    }
    let limit = ContinuousClock.now + .seconds(10)
    while try await observer.query(sessions, ["dropped"])[0].get("n", as: Int.self) > 0 {
      try #require(ContinuousClock.now < limit, "sessions outlive their connections")
      try await Task.sleep(for: .milliseconds(5))
    }
  }
}

/// A listening TCP socket that answers libpq's request for TLS with "no", or not at all.
private final class RefusesTLS: Sendable {
  let port: UInt16
  private let listener: Int32

  init(answers: Bool = true) throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = listener
    let bound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 4) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard bound else { throw PostgresError(.connection, "no listening socket: errno \(errno)") }
    port = UInt16(bigEndian: address.sin_port)
    guard answers else { return }
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { context in
        let descriptor = Int32(Int(bitPattern: context))
        while case let peer = accept(descriptor, nil, nil), peer >= 0 {
          var request = [UInt8](repeating: 0, count: 8)
          if recv(peer, &request, request.count, 0) == request.count { send(peer, "N", 1, 0) }
          close(peer)
        }
        return nil
      }, UnsafeMutableRawPointer(bitPattern: Int(descriptor)))
    pthread_detach(thread)
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
  }
}
