import FoundationEssentials
import TestKit
import Testing

@testable import Postgres

func statement(_ sql: String, _ name: String = #function) -> Statement { Statement(name: "\(name) \(sql)", sql: sql) }

/// The error that `body` throws.
func failure(
  _ body: () async throws -> Void, isolation: isolated (any Actor)? = #isolation,
  sourceLocation: SourceLocation = #_sourceLocation
) async throws -> PostgresError {
  do {
    try await body()
  } catch let error as PostgresError {
    return error
  }
  Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  throw PostgresError(.usage, "nothing was thrown")
}

@Suite(.database) struct ConnectionTests {
  @Test func aServerErrorKeepsItsFields() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL)")
    let insert = Statement(name: "insert_account", sql: "INSERT INTO account VALUES ($1, $2)")
    try await connection.query(insert, [1, "a"])
    let error = try await failure { try await connection.query(insert, [1, "b"]) }
    #expect(error.kind == .server)
    #expect(error.sqlState == "23505")
    #expect(error.message.contains("account_pkey"))
    #expect(error.detail == "Key (id)=(1) already exists.")
    #expect(error.constraint == "account_pkey")
    #expect(error.table == "account")
    #expect(error.schema == "public")
    #expect(error.severity == "ERROR")
    #expect(error.statement == "insert_account")
    #expect(!error.isConnectionLoss)
    for part in ["23505", "account_pkey", "insert_account"] { #expect(error.description.contains(part)) }

    let raising = """
      DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'CD001', DETAIL = 'why', HINT = 'do this', COLUMN = 'c'; END $$
      """
    let raised = try await failure { try await connection.query(statement(raising)) }
    #expect(raised.sqlState == "CD001")
    #expect(raised.detail == "why")
    #expect(raised.hint == "do this")
    #expect(raised.column == "c")
    #expect(raised.context?.contains("PL/pgSQL") == true)

    let syntax = try await failure { try await connection.query(statement("SELECT FROM WHERE")) }
    #expect(syntax.sqlState == "42601")
    #expect(syntax.position == 13)
    #expect(await connection.isReusable)
  }

  @Test func aStatementIsPreparedOnce() async throws {
    let connection = try await Database.current.connect()
    let add = Statement(name: "add", sql: "SELECT $1::int + $2::int AS sum")
    for number in 0..<5 {
      let sum: Int = try await connection.query(add, [Parameter(number), 1])[0].get("sum")
      #expect(sum == number + 1)
    }
    let prepared = Statement(name: "prepared", sql: "SELECT name, statement FROM pg_prepared_statements ORDER BY 1")
    let rows = try await connection.query(prepared)
    #expect(try rows.map { try $0.get("statement", as: String.self) } == [add.sql, prepared.sql])

    let other = try await failure { try await connection.query(Statement(name: "add", sql: "SELECT 1")) }
    #expect(other.kind == .usage)
    #expect(other.statement == "add")
  }

  @Test func aStatementIsPreparedAnewWhenTheServerForgotItOrItsResultChanged() async throws {
    let connection = try await Database.current.connect()
    let all = Statement(name: "all", sql: "SELECT * FROM thing")
    try await connection.execute(script: "CREATE TABLE thing AS SELECT 1 AS a")
    #expect(try await connection.query(all)[0].columns == ["a"])
    try await connection.execute(script: "ALTER TABLE thing ADD COLUMN b int")
    #expect(try await failure { try await connection.query(all) }.sqlState == "0A000")
    #expect(try await connection.query(all)[0].columns == ["a", "b"])
    try await connection.execute(script: "DEALLOCATE ALL")
    #expect(try await failure { try await connection.query(all) }.sqlState == "26000")
    #expect(try await connection.query(all)[0].columns == ["a", "b"])
  }

  @Test func statementsWithLongNamesDoNotCollide() async throws {
    let connection = try await Database.current.connect()
    let long = String(repeating: "n", count: 100)
    #expect(
      try await connection.query(Statement(name: long + "1", sql: "SELECT 1 AS v"))[0].get("v", as: Int.self) == 1)
    #expect(
      try await connection.query(Statement(name: long + "2", sql: "SELECT 2 AS v"))[0].get("v", as: Int.self) == 2)
  }

  @Test func pipelineGoesOnAfterAnErrorInTheMiddle() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE number (n int PRIMARY KEY)")
    let insert = Statement(name: "insert", sql: "INSERT INTO number VALUES ($1) RETURNING n")
    let broken = Statement(name: "broken", sql: "SELECT * FROM nowhere")
    let results = try await connection.pipeline([
      (insert, [1]), (insert, [1]), (broken, []), (insert, [2]), (broken, []), (insert, ["x"]), (insert, [3]),
    ])
    let outcomes = results.map { result -> String in
      switch result {
      case .success(let rows): rows.first.flatMap { try? $0.get("n") } ?? "no row"
      case .failure(let error): "\(error.sqlState ?? "none") \(error.statement ?? "none")"
      }
    }
    #expect(outcomes == ["1", "23505 insert", "42P01 broken", "2", "42P01 broken", "22P02 insert", "3"])
    #expect(try await connection.query(statement("SELECT n FROM number ORDER BY n")).count == 3)
    #expect(await connection.isReusable)
  }

  @Test func pipelineLargerThanAllBuffers() async throws {
    let connection = try await Database.current.connect()
    let echo = Statement(name: "echo", sql: "SELECT $1::bytea AS value")
    let value = [UInt8](repeating: 7, count: 50_000)
    let results = try await connection.pipeline(
      (0..<200).map { _ in (echo, [Parameter(value)]) }, deadline: .seconds(60))
    #expect(results.count == 200)
    #expect(try results.allSatisfy { try $0.get()[0].get("value", as: [UInt8].self) == value })
  }

  @Test func pipelineInsideATransactionFailsWhatFollows() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE number (n int PRIMARY KEY)")
    let insert = Statement(name: "insert", sql: "INSERT INTO number VALUES ($1)")
    let error = try await failure {
      try await connection.transaction { connection in
        let results = try connection.pipeline([(insert, [1]), (insert, [1]), (insert, [2])])
        for result in results.dropFirst(2) { _ = try result.get() }
      }
    }
    #expect(error.sqlState == "25P02")
    #expect(try await connection.query(statement("SELECT n FROM number")).isEmpty)
  }

  @Test func copyInStreamsRows() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE item (id int PRIMARY KEY, name text, body bytea)")
    let odd = "tab\tnew\nline\rback\\slash \\N ü"
    let rows = (0..<20_000).map { (number: Int) -> [Parameter] in
      let name: String? = number == 1 ? nil : "\(odd) \(number)"
      return [Parameter(number), Parameter(name), Parameter([UInt8]([0, 10, 92, 255]))]
    }
    #expect(try await connection.copyIn("COPY item FROM STDIN", rows: rows) == 20_000)
    let got = try await connection.query(statement("SELECT name, body FROM item WHERE id <= 1 ORDER BY id"))
    #expect(try got[0].get("name") == "\(odd) 0")
    #expect(try got[1].get("name", as: String?.self) == nil)
    #expect(try got[0].get("body", as: [UInt8].self) == [0, 10, 92, 255])
    #expect(try await connection.copyIn("COPY item FROM STDIN", rows: []) == 0)
  }

  @Test func copyInThatFailsLeavesNothingAndTheConnectionUsable() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE item (id int PRIMARY KEY)")
    let many = (0..<100_000).map { [Parameter($0 == 50_000 ? 0 : $0)] }
    let double = try await failure { try await connection.copyIn("COPY item FROM STDIN", rows: many) }
    #expect(double.sqlState == "23505")
    let nul = try await failure { try await connection.copyIn("COPY item FROM STDIN", rows: [[1], ["\0"]]) }
    #expect(nul.kind == .usage)
    let missing = try await failure { try await connection.copyIn("COPY nowhere FROM STDIN", rows: [[1]]) }
    #expect(missing.sqlState == "42P01")
    let other = try await failure { try await connection.copyIn("SELECT 1", rows: [[1]]) }
    #expect(other.kind == .usage)
    let script = try await failure { try await connection.execute(script: "COPY item FROM STDIN") }
    #expect(script.kind == .usage)
    #expect(try await connection.query(statement("SELECT id FROM item")).isEmpty)
    #expect(await connection.isReusable)
  }

  @Test func copyInHonoursItsDeadlineBehindALock() async throws {
    let holder = try await Database.current.connect()
    let connection = try await Database.current.connect()
    try await holder.execute(script: "CREATE TABLE item (id int)")
    try await holder.execute(script: "BEGIN; LOCK item")
    let rows = (0..<50_000).map { [Parameter($0)] }
    let error = try await failure {
      try await connection.copyIn("COPY item FROM STDIN", rows: rows, deadline: .milliseconds(200))
    }
    #expect(error.kind == .deadline)
    #expect(await connection.isReusable)
    try await holder.execute(script: "ROLLBACK")
    #expect(try await connection.query(statement("SELECT id FROM item")).isEmpty)
  }

  @Test func transactionsCommitOrRollBack() async throws {
    let connection = try await Database.current.connect()
    try await connection.execute(script: "CREATE TABLE number (n int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    let insert = Statement(name: "insert", sql: "INSERT INTO number VALUES ($1)")
    struct Own: Error {}
    try await connection.transaction { _ = try $0.query(insert, [1]) }
    await #expect(throws: Own.self) {
      try await connection.transaction { connection in
        try connection.query(insert, [2])
        throw Own()
      }
    }
    let late = try await failure { try await connection.transaction { _ = try $0.query(insert, [1]) } }
    #expect(late.sqlState == "23505")
    let swallowed = try await failure {
      try await connection.transaction { connection in
        try connection.query(insert, [3])
        _ = try? connection.query(Statement(name: "bad", sql: "SELECT 1/0"))
      }
    }
    #expect(swallowed.kind == .usage)
    let nested = try await failure {
      try await connection.transaction { connection in try connection.transaction { _ in } }
    }
    #expect(nested.kind == .usage)
    #expect(try await connection.query(statement("SELECT n FROM number")).count == 1)
    #expect(await connection.isReusable)
  }

  @Test func noticesReachTheHandler() async throws {
    let (notices, continuation) = AsyncStream<Notice>.makeStream()
    var settings = Database.current.settings()
    settings.noticeHandler = { continuation.yield($0) }
    let connection = try await Connection.connect(settings)
    try await connection.execute(script: "DO $$ BEGIN RAISE WARNING 'mind this' USING HINT = 'now'; END $$")
    continuation.finish()
    let received = await notices.reduce(into: [Notice]()) { $0.append($1) }
    #expect(received.map(\.message) == ["mind this"])
    #expect(received.first?.severity == "WARNING")
    #expect(received.first?.hint == "now")
  }

  @Test func textWithNULIsRefusedBeforeItIsSent() async throws {
    let connection = try await Database.current.connect()
    let parameter = try await failure { try await connection.query(statement("SELECT $1::text"), ["a\0b"]) }
    #expect(parameter.kind == .usage)
    #expect(parameter.message.contains("$1"))
    #expect(try await failure { try await connection.execute(script: "SELECT 1\0; DROP") }.kind == .usage)
    #expect(try await failure { try await connection.listen("a\0b") }.kind == .usage)
  }
}
