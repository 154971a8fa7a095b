import TestKit
import Testing

@testable import Postgres

private let sleep = Statement(name: "sleep", sql: "SELECT pg_sleep($1)")
private let one = Statement(name: "one", sql: "SELECT 1 AS one")

@Suite(.database) struct InterruptionTests {
  @Test func aDeadlineCancelsTheStatementAndKeepsTheConnection() async throws {
    let connection = try await Database.current.connect()
    let start = ContinuousClock.now
    let error = try await failure { try await connection.query(sleep, [30], deadline: .milliseconds(150)) }
    #expect(ContinuousClock.now - start < .seconds(5))
    #expect(error.kind == .deadline)
    #expect(error.sqlState == "57014")
    #expect(error.statement == "sleep")
    #expect(!error.isConnectionLoss)
    #expect(try await connection.query(one)[0].get("one") == 1)
    #expect(await connection.isReusable)
  }

  @Test func theSettingsGiveADeadlineToo() async throws {
    var settings = Database.current.settings()
    settings.statementTimeout = .milliseconds(100)
    let connection = try await Connection.connect(settings)
    #expect(try await failure { try await connection.query(sleep, [30]) }.kind == .deadline)
    #expect(try await failure { try await connection.execute(script: "SELECT pg_sleep(30)") }.kind == .deadline)
  }

  @Test func aTimeoutOfTheServerIsNoDeadline() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "SET statement_timeout = 50")
    let error = try await failure { try await connection.query(sleep, [30], deadline: .seconds(20)) }
    #expect(error.kind == .server)
    #expect(error.sqlState == "57014")
  }

  @Test func cancellingTheTaskCancelsTheStatement() async throws {
    let connection = try await Database.current.connect()
    let process = await connection.serverProcess
    let task = Task { try await connection.query(sleep, [30]) }
    let observer = try await Database.current.connect()
    let running = Statement(
      name: "running", sql: "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'")
    while try await observer.query(running, [Parameter(process)]).isEmpty {
      try await Task.sleep(for: .milliseconds(5))
    }
    let start = ContinuousClock.now
    task.cancel()
    let error = try await failure { _ = try await task.value }
    #expect(error.kind == .cancelled)
    #expect(ContinuousClock.now - start < .seconds(2))
    #expect(try await observer.query(running, [Parameter(process)]).isEmpty)
    #expect(try await connection.query(one)[0].get("one") == 1)
  }

  @Test func aCancelledTaskSendsNothing() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE t (n int)")
    let task = Task {
      while !Task.isCancelled { await Task.yield() }
      try await connection.execute(script: "INSERT INTO t VALUES (1)")
    }
    task.cancel()
    #expect(try await failure { try await task.value }.kind == .cancelled)
    #expect(try await connection.query(statement("SELECT n FROM t")).isEmpty)
  }

  @Test func aDeadlineOfATransactionBoundsAllOfItAndRollsBack() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE t (n int)")
    let error = try await failure {
      try await connection.transaction(deadline: .milliseconds(200)) { connection in
        try connection.execute(script: "INSERT INTO t VALUES (1)")
        while true { try connection.query(sleep, [Parameter(0.05)]) }
      }
    }
    #expect(error.kind == .deadline)
    #expect(await connection.isReusable)
    #expect(try await connection.query(statement("SELECT n FROM t")).isEmpty)
    #expect(try await connection.query(sleep, [Parameter(0.3)]).count == 1)
  }

  @Test func aPipelineSaysWhatBecameOfEachCallAtItsDeadline() async throws {
    let connection = try await Database.current.connect()
    let results = try await connection.pipeline([(one, []), (sleep, [30]), (one, [])], deadline: .seconds(2))
    #expect(try results[0].get().count == 1)
    #expect(throws: PostgresError.self) { try results[1].get() }
    if case .failure(let error) = results[1] { #expect(error.kind == .deadline) }
    #expect(try results[2].get().count == 1)
    #expect(await connection.isReusable)
  }

  @Test func aServerThatDoesNotConfirmCostsTheConnection() async throws {
    var settings = Database.current.settings()
    settings.cancelGrace = .milliseconds(300)
    let connection = try await Connection.connect(settings)
    // A function that catches cancellation and goes on, as uninterruptible work would.
    try await connection.execute(
      script: """
        CREATE FUNCTION stubborn() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          FOR i IN 1..20 LOOP
            BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END;
          END LOOP;
        END $$
        """)
    let error = try await failure {
      try await connection.query(statement("SELECT stubborn()"), deadline: .milliseconds(100))
    }
    #expect(error.kind == .deadline)
    #expect(error.isConnectionLoss)
    #expect(await !connection.isUsable)
    let later = try await failure { try await connection.query(one) }
    #expect(later.kind == .connection)
    #expect(later.isConnectionLoss)
  }

  @Test func aServerThatGoesAwayIsAConnectionLossWithItsReason() async throws {
    let admin = try await Database.current.connect()
    let terminate = Statement(name: "terminate", sql: "SELECT pg_terminate_backend($1)")
    let busy = try await Database.current.connect()
    let process = await busy.serverProcess
    let task = Task { try await busy.query(sleep, [30]) }
    try await Task.sleep(for: .milliseconds(100))
    try await admin.query(terminate, [Parameter(process)])
    let error = try await failure { _ = try await task.value }
    #expect(error.kind == .connection)
    #expect(error.isConnectionLoss)
    #expect(error.sqlState == "57P01")
    #expect(await !busy.isUsable)

    let idle = try await Database.current.connect()
    try await admin.query(terminate, [Parameter(await idle.serverProcess)])
    // The stream ends without any call on the connection: it is watched while idle.
    for await _ in idle.notifications { Issue.record("a notification out of nowhere") }
    let later = try await failure { try await idle.query(one) }
    #expect(later.isConnectionLoss)
    #expect(later.sqlState == "57P01")
  }

  @Test func aClosedConnectionSaysSo() async throws {
    let connection = try await Database.current.connect()
    await connection.close()
    let error = try await failure { try await connection.query(one) }
    #expect(error.kind == .connection)
    #expect(error.message.contains("closed"))
  }
}

@Suite(.database) struct NotificationTests {
  @Test func notificationsArriveWhileIdle() async throws {
    let listener = try await Database.current.connect()
    let sender = try await Database.current.connect()
    try await listener.listen("Odd \"channel\"")
    try await listener.listen("plain")
    try await sender.execute(script: "NOTIFY \"Odd \"\"channel\"\"\", 'first'; NOTIFY plain; NOTIFY other, 'x'")
    try await sender.execute(script: "BEGIN; NOTIFY plain, 'rolled back'; ROLLBACK")
    try await sender.execute(script: "NOTIFY plain, 'last'")
    let process = await sender.serverProcess
    var received: [Postgres.Notification] = []
    for await notification in listener.notifications {
      received.append(notification)
      if notification.payload == "last" { break }
    }
    #expect(
      received == [
        .init(channel: "Odd \"channel\"", payload: "first", sender: process),
        .init(channel: "plain", payload: "", sender: process),
        .init(channel: "plain", payload: "last", sender: process),
      ])
    #expect(await !listener.isReusable)
  }

  @Test func notificationsArriveBetweenStatementsAndAfterUnlistenNoMore() async throws {
    let connection = try await Database.current.connect()
    try await connection.listen("c")
    try await connection.execute(script: "NOTIFY c, 'own'")
    var iterator = connection.notifications.makeAsyncIterator()
    #expect(await iterator.next()?.payload == "own")
    try await connection.unlisten("c")
    try await connection.execute(script: "NOTIFY c, 'unheard'")
    #expect(await connection.isReusable)
    await connection.close()
    #expect(await iterator.next() == nil)
  }
}
