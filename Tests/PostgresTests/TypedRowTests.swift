import FoundationEssentials
import TestKit
import Testing

@testable import Postgres

@Suite(.database) struct TypedRowTests {
  func value<T: PostgresDecodable>(
    _ sql: String, _ parameters: [Parameter] = [], as type: T.Type = T.self
  ) async throws -> T {
    let connection = try await Database.current.connect()
    let rows = try await connection.query(Statement(name: "value", sql: "SELECT \(sql) AS value"), parameters)
    await connection.close()
    return try rows[0].get("value")
  }

  @Test func scalarsComeBack() async throws {
    #expect(try await value("$1::int8", [Parameter(Int64.min)]) == Int64.min)
    #expect(try await value("$1::int4", [Parameter(Int32.max)]) == Int32.max)
    #expect(try await value("$1::float8", [Parameter(0.1 + 0.2)]) == 0.1 + 0.2)
    #expect(try await value("$1::float8", [Parameter(-Double.infinity)]) == -Double.infinity)
    #expect(try await value("$1::float8", [Parameter(Double.nan)], as: Double.self).isNaN)
    #expect(try await value("$1::float8", [Parameter(Double.leastNonzeroMagnitude)]) == Double.leastNonzeroMagnitude)
    #expect(try await value("$1::bool", [true]) == true)
    #expect(try await value("NOT $1::bool", [true]) == false)
    #expect(try await value("$1::text", ["ü€😀 '\" \\ \u{1}"]) == "ü€😀 '\" \\ \u{1}")
    #expect(try await value("$1::text", [""]) == "")
  }

  @Test func nullIsOnlyForOptionals() async throws {
    #expect(try await value("$1::int", [nil], as: Int?.self) == nil)
    #expect(try await value("$1::int", [Parameter(5)], as: Int?.self) == 5)
    #expect(try await value("$1::int IS NULL", [Parameter(Int?.none)]) == true)
    let error = try await failure { _ = try await value("NULL::int", as: Int.self) }
    #expect(error.kind == .decoding)
    #expect(error.message.contains("\"value\""))
    #expect(error.message.contains("NULL"))
    #expect(error.statement == "value")
  }

  @Test func whatDoesNotFitIsAnError() async throws {
    #expect(try await failure { _ = try await value("3000000000", as: Int32.self) }.message.contains("3000000000"))
    #expect(try await failure { _ = try await value("'x'::text", as: Int.self) }.kind == .decoding)
    #expect(try await failure { _ = try await value("'infinity'::timestamptz", as: Date.self) }.kind == .decoding)
    #expect(try await failure { _ = try await value("ARRAY[1,NULL]", as: [Int].self) }.kind == .decoding)
    let connection = try await Database.current.connect()
    let row = try await connection.query(Statement(name: "two", sql: "SELECT 1 AS a, 2 AS \"B\", 3 AS a"))[0]
    #expect(row.columns == ["a", "B", "a"])
    #expect(try row.get("a", as: Int.self) == 1)
    #expect(try row.get("B", as: Int.self) == 2)
    #expect(try row.get(at: 2, as: Int.self) == 3)
    #expect(throws: PostgresError.self) { try row.get("b", as: Int.self) }
    #expect(throws: PostgresError.self) { try row.get(at: 3, as: Int.self) }
  }

  @Test func byteaWithEveryByteValue() async throws {
    let bytes = (0...255).map { UInt8($0) } + (0...255).reversed().map { UInt8($0) }
    #expect(try await value("$1::bytea", [Parameter(bytes)]) == bytes)
    #expect(try await value("length($1::bytea)", [Parameter(bytes)]) == 512)
    #expect(try await value("$1::bytea", [Parameter([UInt8]())]) == [UInt8]())
    #expect(try await value("$1::bytea", [Parameter([UInt8]?.none)], as: [UInt8]?.self) == nil)
    let connection = try await Database.current.connect()
    try await connection.execute(script: "SET bytea_output = escape")
    let row = try await connection.query(Statement(name: "escaped", sql: "SELECT $1::bytea AS b"), [Parameter(bytes)])[
      0]
    #expect(try row.get("b") == bytes)
    #expect(try await value("$1::bytea[]", [Parameter([bytes, [0], []])], as: [[UInt8]].self) == [bytes, [0], []])
  }

  @Test func arrays() async throws {
    let texts = ["", "NULL", "null", "a\"b", "c\\d", "{x,y}", "  ", "ü", "\\\"", "\n"]
    #expect(try await value("$1::text[]", [Parameter(texts)]) == texts)
    let holes: [String?] = [nil, "NULL", nil, ""]
    #expect(try await value("$1::text[]", [Parameter(holes)]) == holes)
    #expect(try await value("($1::text[])[1] IS NULL", [Parameter(holes)]) == true)
    #expect(try await value("$1::int8[]", [Parameter([Int64.min, 0, Int64.max])]) == [Int64.min, 0, Int64.max])
    #expect(try await value("$1::int8[]", [Parameter([Int64]())]) == [Int64]())
    #expect(try await value("ARRAY[1,NULL,3]", as: [Int?].self) == [1, nil, 3])
    #expect(try await value("$1::bool[]", [Parameter([true, false])]) == [true, false])
    #expect(try await value("$1::float8[]", [Parameter([0.1, -.infinity])]) == [0.1, -.infinity])
    #expect(try await value("'[5:6]={a,b}'::text[]", as: [String].self) == ["a", "b"])
    #expect(try await failure { _ = try await value("'{{1}}'::int[]", as: [Int].self) }.kind == .decoding)
  }

  @Test func datesKeepTheirMicroseconds() async throws {
    let date = Date(timeIntervalSince1970: 1_795_452_677.123456)
    #expect(try await value("$1::timestamptz", [Parameter(date)]) == date)
    #expect(try await value("extract(microseconds FROM $1::timestamptz)::int", [Parameter(date)]) == 17_123_456)
    #expect(try await value("'2026-11-23 18:51:17.123456+02'::timestamptz", as: Date.self) == date)
    #expect(try await value("$1::timestamptz", [Parameter(Date?.none)], as: Date?.self) == nil)
    let ancient = Date(timeIntervalSince1970: -100_000_000_000)
    #expect(try await value("$1::timestamptz", [Parameter(ancient)]) == ancient)
    let connection = try await Database.current.connect()
    try await connection.execute(script: "SET TimeZone = 'Asia/Kathmandu'")
    let row = try await connection.query(
      Statement(name: "zone", sql: "SELECT $1::timestamptz AS t"), [Parameter(date)])[0]
    #expect(try row.get("t") == date)
  }

  @Test func rowsOutliveTheirConnection() async throws {
    let connection = try await Database.current.connect()
    let rows = try await connection.query(statement("SELECT repeat(n::text, 100) AS v FROM generate_series(1, 500) n"))
    await connection.close()
    #expect(
      try rows.enumerated().allSatisfy { index, row in
        try row.get("v") == String(repeating: String(index + 1), count: 100)
      })
  }
}
