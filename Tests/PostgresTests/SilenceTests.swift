import Glibc
import PrivateCluster
import TestKit
import Testing

@testable import Postgres

private let one = Statement(name: "one", sql: "SELECT 1 AS one")

/// A host that is switched off, or behind a cable that is cut, refuses nothing: it says nothing.
@Suite(.database) struct SilenceTests {
  private func settings(_ host: SilentHost) -> ConnectionSettings {
    let database = Database.current
    return ConnectionSettings(
      "host=127.0.0.1 port=\(host.port) dbname=\(database.name) user=postgres", connectTimeout: .seconds(1))
  }

  @Test func anIdleConnectionNoticesThatItsServerIsSilent() async throws {
    let host = try SilentHost(before: Database.current.cluster.socketDirectory)
    let connection = try await Connection.connect(settings(host))
    #expect(try await connection.query(one)[0].get("one") == 1)
    // What is still to be acknowledged would be sent again by an end that only hears nothing.
    try await Task.sleep(for: .milliseconds(300))
    try host.fallSilent()
    let start = ContinuousClock.now
    while await connection.isUsable {
      try #require(ContinuousClock.now - start < .seconds(15), "a silent server is believed in")
      try await Task.sleep(for: .milliseconds(50))
    }
    // One probe that is lost is no silence.
    #expect(ContinuousClock.now - start > .seconds(2))
  }

  @Test func aStatementWithoutDeadlineEndsWithTheSilence() async throws {
    let host = try SilentHost(before: Database.current.cluster.socketDirectory)
    let connection = try await Connection.connect(settings(host))
    try host.fallSilent()
    let start = ContinuousClock.now
    let error = try await failure { try await connection.query(one) }
    #expect(error.isConnectionLoss)
    #expect(ContinuousClock.now - start < .seconds(15))
  }

  @Test func theSettingsMayNameOtherLimits() async throws {
    let host = try SilentHost(before: Database.current.cluster.socketDirectory)
    var patient = settings(host)
    patient.connectionString += " keepalives=0"
    let connection = try await Connection.connect(patient)
    try host.fallSilent()
    try await Task.sleep(for: .seconds(5))
    #expect(await connection.isUsable)
  }

  @Test(arguments: [true, false])
  func theHostBehindASilentOneIsReached(_ answersPackets: Bool) async throws {
    let database = Database.current
    // Frozen, it still completes handshakes of TCP; switched off, not even those.
    let silent = try SilentHost(before: nil)
    let frozen = try FrozenHost()
    let port = answersPackets ? frozen.port : silent.port
    let text =
      "host=127.0.0.1,\(database.cluster.socketDirectory) port=\(port),5432 dbname=\(database.name) user=postgres"
    let settings = ConnectionSettings(text, connectTimeout: .milliseconds(500))
    let start = ContinuousClock.now
    let connection = try await Connection.connect(settings)
    #expect(try await connection.query(one)[0].get("one") == 1)
    #expect(ContinuousClock.now - start >= .milliseconds(500))
    await connection.close()
    // A deadline of the call's holds for all hosts together, and leaves each its share.
    let hurried = try await Connection.connect(settings, deadline: .milliseconds(300))
    await hurried.close()
  }

  @Test func aClosedPoolConnectsNoMore() async throws {
    let frozen = try FrozenHost()
    let pool = Pool(
      ConnectionSettings("host=127.0.0.1 port=\(frozen.port) dbname=x user=postgres"), maximum: 2,
      waitLimit: .milliseconds(200))
    #expect(try await failure { try await pool.query(one) }.kind == .deadline)
    await pool.close()
    #expect(frozen.isLeft)
  }

  @Test func wherePatienceEndsAtTheLastHostItSaysSo() async throws {
    let silent = try SilentHost(before: nil)
    let text = "host=127.0.0.1,127.0.0.1 port=\(silent.port),\(silent.port) dbname=x user=postgres"
    let start = ContinuousClock.now
    let error = try await failure {
      _ = try await Connection.connect(ConnectionSettings(text, connectTimeout: .milliseconds(200)))
    }
    #expect(error.kind == .deadline)
    #expect(ContinuousClock.now - start >= .milliseconds(400))
    #expect(ContinuousClock.now - start < .seconds(5))
  }
}

/// A listening port nobody accepts from.
private final class FrozenHost: Sendable {
  let port: UInt16
  private let listener: Int32

  init() throws { (listener, port) = try SilentHost.listening() }

  deinit { close(listener) }

  /// Whether the first client has closed its end.
  var isLeft: Bool {
    let client = accept(listener, nil, nil)
    defer { close(client) }
    var buffer = [UInt8](repeating: 0, count: 64)
    while true {
      let count = recv(client, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      if count <= 0 { return count == 0 || errno == ECONNRESET }
    }
  }
}
