import FoundationEssentials
import Testing

@testable import Postgres

@Suite struct TextFormTests {
  func array(_ text: String) throws -> [String?] {
    try ArrayLiteral.parse(Array(text.utf8)).map { $0.map { String(decoding: $0, as: UTF8.self) } }
  }

  @Test func arrays() throws {
    #expect(try array("{}") == [])
    #expect(try array("{a,NULL,\"NULL\",null}") == ["a", nil, "NULL", "null"])
    #expect(try array(#"{"a\"b","c\\d","{e,f}"," "}"#) == ["a\"b", "c\\d", "{e,f}", " "])
    #expect(try array(#"{\N\U\L\L}"#) == ["NULL"])
    #expect(try array("[0:1]={1,2}") == ["1", "2"])
    #expect(try array("{\"\"}") == [""])
  }

  @Test(arguments: [
    "", "a", "{", "{a", "{a,", "{a,}", "{,a}", "{\"a}", "{a}b", "{{a}}", "[0:1]{a}", "{\"a\"b}", "{a\\",
  ])
  func malformedArraysAreRefused(_ text: String) {
    #expect(throws: ArrayLiteral.Malformed.self) { try array(text) }
  }

  @Test(arguments: [[], ["", " ", "NULL", nil], ["\"", "\\", "\\\"", "{}", ",", "\n\t", "ü€😀", "e\u{301}"]])
  func arraysComeBack(_ elements: [String?]) throws {
    #expect(try array(ArrayLiteral.encode(elements)) == elements)
  }

  func bytea(_ text: String) -> [UInt8]? { Array(text.utf8).withUnsafeBufferPointer { ByteaText.decode($0) } }

  @Test func byteaForms() {
    #expect(bytea("\\x00fFA0") == [0, 255, 160])
    #expect(bytea("\\x") == [])
    #expect(bytea("a\\\\b\\000\\377") == [0x61, 0x5C, 0x62, 0, 255])
    for text in ["\\x0", "\\x0g", "\\", "\\40", "\\777", "\\48a"] { #expect(bytea(text) == nil, "\(text)") }
    let every = (0...255).map { UInt8($0) }
    #expect(bytea(ByteaText.encode(every)) == every)
  }

  func date(_ text: String) -> Date? { Array(text.utf8).withUnsafeBufferPointer { TimestampText.decode($0) } }

  @Test func timestamps() throws {
    #expect(date("1970-01-01 00:00:00+00") == Date(timeIntervalSince1970: 0))
    #expect(date("2001-01-01 00:00:00.5+00") == Date(timeIntervalSinceReferenceDate: 0.5))
    #expect(date("2026-11-23 16:51:17.123456+00") == Date(timeIntervalSince1970: 1_795_452_677.123456))
    #expect(date("2026-11-23 18:21:17.123456+01:30") == Date(timeIntervalSince1970: 1_795_452_677.123456))
    #expect(date("1970-01-02") == Date(timeIntervalSince1970: 86_400))
    #expect(date("0001-01-01 00:00:00+00 BC") == Date(timeIntervalSince1970: -62_167_219_200))
    #expect(date("12345-02-28 23:59:59+00") == Date(timeIntervalSince1970: 327_408_479_999))
    for text in ["infinity", "", "2026-13-01", "2026-1-01", "2026-01-01 1:00:00", "2026-01-01 00:00:00+00 AD", "x"] {
      #expect(date(text) == nil, "\(text)")
    }
  }

  @Test func timestampsComeBackToTheMicrosecond() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<2_000 {
      let microseconds = Int64.random(in: -3_000_000_000_000_000...4_000_000_000_000_000, using: &generator)
      let original = Date(timeIntervalSinceReferenceDate: Double(microseconds) / 1_000_000)
      #expect(date(TimestampText.encode(original)) == original)
    }
  }

  @Test func copyLines() {
    var line: [UInt8] = []
    CopyText.append(["a\tb\nc\rd\\", nil, Parameter([UInt8]([0, 255])), "\\N"], to: &line)
    #expect(String(decoding: line, as: UTF8.self) == "a\\tb\\nc\\rd\\\\\t\\N\t\\\\x00ff\t\\\\N\n")
  }

  @Test func connectFailuresKeepTheirCode() {
    let text = """
      connection to server on socket "/a" failed: No such file or directory
      connection to server on socket "/b" failed: FATAL:  28P01: password authentication failed
      DETAIL:  no entry
      LOCATION:  auth_failed, auth.c:335
      """
    let error = ConnectFailure.error(text, kind: .connection)
    #expect(error.sqlState == "28P01")
    #expect(error.message.hasSuffix("failed: FATAL:  password authentication failed; DETAIL:  no entry"))
    #expect(!error.isTransientConnectFailure)
    let plain = ConnectFailure.error("no such file: a: b", kind: .connection)
    #expect(plain.sqlState == nil)
    #expect(plain.message == "no such file: a: b")
    #expect(plain.isTransientConnectFailure)
  }
}
