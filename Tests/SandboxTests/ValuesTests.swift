import Jobs
import Testing

@testable import Sandbox

@Suite("Names and streams") struct ValuesTests {
  @Test(arguments: [
    ("plain.csv", Array("plain.csv".utf8)), ("a b", Array("a b".utf8)), ("-rf", Array("-rf".utf8)),
    ("r\u{e9}sum\u{e9}", Array("r\u{e9}sum\u{e9}".utf8)), ("line\\x0Abreak", Array("line\nbreak".utf8)),
    ("\\x1B[31m", Array("\u{1B}[31m".utf8)), ("back\\x5Cslash", Array("back\\slash".utf8)),
    ("\\xFF\\xFEx", [0xFF, 0xFE, 0x78]), ("\\xE2\\x82", [0xE2, 0x82]), ("\\xC0\\xAF", [0xC0, 0xAF]),
    ("\\xED\\xA0\\x80", [0xED, 0xA0, 0x80]), ("\\xE2\\x80\\xAEgpj.exe", Array("\u{202E}gpj.exe".utf8)),
    ("\\xC2\\x9Bm", Array("\u{9B}m".utf8)), ("\\x7F", [0x7F]), ("", []),
  ])
  func shownNames(shown: String, bytes: [UInt8]) {
    #expect(EscapedName.show(bytes) == shown)
  }

  /// Against the library's own decoder, for every lead and a choice of what follows.
  @Test func wellFormedIsWhatTheLibraryTakes() {
    let followers: [UInt8] = [0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    for first in UInt8.min...UInt8.max {
      for second in followers {
        for third in followers {
          for fourth in followers {
            let bytes = [first, second, third, fourth]
            let shown = EscapedName.show(bytes)
            let isWellFormed = String(validating: bytes, as: UTF8.self) != nil
            if !shown.utf8.contains(UInt8(ascii: "\\")) { #expect(isWellFormed, "\(bytes)") }
          }
        }
      }
    }
    #expect(EscapedName.show(Array("\u{10FFFF}\u{800}\u{FFFF}\u{D7FF}".utf8)) == "\u{10FFFF}\u{800}\u{FFFF}\u{D7FF}")
  }

  /// In proportion to its length, however slow the host is.
  @Test func aLongNameIsShownQuickly() {
    func time(_ count: Int) -> Duration {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 | 0x80) }
      return ContinuousClock().measure { #expect(EscapedName.show(bytes).utf8.count >= bytes.count) }
    }
    let short = (0..<3).map { _ in time(20_000) }.max()!
    // Ten times the length in ten times the time; in its square it would be a hundred times.
    #expect(time(200_000) < short * 40)
  }

  @Test func everyByteIsShownDifferently() {
    var seen: Set<[UInt8]> = []
    for first in UInt8.min...UInt8.max {
      seen.insert(Array(EscapedName.show([first]).utf8))
      for second in UInt8.min...UInt8.max { seen.insert(Array(EscapedName.show([first, second]).utf8)) }
    }
    #expect(seen.count == 256 + 65_536)
  }

  @Test(
    arguments: [
      ("a/b\\xFF.txt", [Array("a".utf8), Array("b".utf8) + [0xFF] + Array(".txt".utf8)]),
      ("\\x5Cx41", [Array("\\x41".utf8)]),
      ("a//b", nil), ("/a", nil), ("", nil), ("a/\\x2E\\x2E", nil), ("a\\x00", nil), ("\\x2F", nil),
      // No spelling of any byte.
      ("\\x+1", nil), ("\\x-0", nil), ("\\x4", nil), ("\\x", nil), ("\\", nil), ("\\y41", nil), ("\\x\u{661}1", nil),
    ] as [(String, [[UInt8]]?)])
  func componentsOfASpelling(spelling: String, components: [[UInt8]]?) {
    #expect(EscapedName.components(of: spelling) == components)
  }

  @Test(arguments: [
    ("acme", "acme"), ("..", "%2E."), (".", "%2E"), ("-x", "%2Dx"), ("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"),
    ("Ä", "%C3%84"), ("a.b-c_d", "a.b-c_d"),
  ])
  func tenantsAreComponents(tenant: String, component: String) {
    #expect(EscapedName.component(tenant) == component)
  }

  @Test func captureKeepsTheCapAndCountsTheRest() {
    var capture = StreamCapture(cap: 10)
    let start = ContinuousClock.now
    #expect(capture.take([1, 2, 3, 4][...], now: start) == [[1, 2, 3, 4]])
    #expect(capture.take(Array(repeating: 9, count: 100)[...], now: start) == [])
    #expect(capture.due == start + StreamCapture.interval)
    #expect(capture.flush(now: start + .seconds(1)) == Array(repeating: 9, count: 6))
    #expect(capture.take(Array(repeating: 9, count: 1_000)[...], now: start + .seconds(2)) == [])
    #expect(capture.bytes == 1_104)
    #expect(capture.due == nil)
    #expect(capture.flush(now: start) == nil)
  }

  @Test func captureCutsFullChunks() {
    var capture = StreamCapture(cap: 1 << 20)
    let start = ContinuousClock.now
    _ = capture.take([0], now: start)
    let bytes = Array(repeating: UInt8(7), count: StreamCapture.chunkBytes + 5)
    let chunks = capture.take(bytes[...], now: start + .milliseconds(1))
    #expect(chunks.map(\.count) == [StreamCapture.chunkBytes])
    #expect(capture.flush(now: start) == Array(repeating: 7, count: 5))
  }

  @Test func errorsReadAsOneLine() {
    let error = SandboxError(stage: "stage", message: "cannot write a", errno: 28, fix: "free some space")
    #expect(error.description == "stage: cannot write a: No space left on device (28); free some space")
    #expect(error.isOutOfSpace)
    #expect(!error.isJobsFault)
    #expect(SandboxError(stage: "exec", message: "x", errno: 2).isJobsFault)
    #expect(!SandboxError(stage: "exec", message: "x", errno: 12).isJobsFault)
    #expect(SandboxError(stage: "request", message: "x").isJobsFault)
    #expect(!SandboxError(stage: "warden", message: "x").isJobsFault)
  }
}

@Suite("Result documents") struct ResultDocumentTests {
  @Test func reads() throws {
    let value = try ResultDocument.parse(Array(#"{"agree": 854, "x": [1.5, null, true, "a\"[["]}"#.utf8))
    #expect(
      value == .object(["agree": .integer(854), "x": .array([.number(1.5), .null, .bool(true), .string("a\"[[")])]))
  }

  @Test func readsEverySpelling() throws {
    let text =
      #" [0, -0, -12, 9223372036854775807, 9223372036854775808, 1E2, -2.5e-1, "\u00e9\ud83d\ude00\n\/\"", "é", {}, [] ] "#
    #expect(
      try ResultDocument.parse(Array(text.utf8))
        == .array([
          .integer(0), .integer(0), .integer(-12), .integer(.max),
          try #require(JSONValue.number(spelled: "9223372036854775808")), .number(100),
          .number(-0.25), .string("é\u{1F600}\n/\""), .string("é"), .object([:]), .array([]),
        ]))
  }

  @Test func namesAreComparedByTheirBytes() throws {
    // The record keeps text that compares by canonical equivalence, so both at once are refused, and told apart.
    func why(_ text: String) -> String {
      do {
        _ = try ResultDocument.parse(Array(text.utf8))
        return ""
      } catch { return error.why }
    }
    #expect(why("{\"caf\u{E9}\": 1, \"cafe\u{301}\": 2}").contains("composed"))
    #expect(why("{\"caf\u{E9}\": 1, \"caf\\u00e9\": 2}").contains("occurs twice"))
    #expect(why("{\"e\u{301}\": 1, \"e\": 2, \"0e-999\": 0e-999}") == "")
  }

  @Test func nestingUpToTheBound() throws {
    let deep = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    _ = try ResultDocument.parse(Array(deep.utf8))
    #expect(throws: ResultDocument.Invalid.self) { try ResultDocument.parse(Array("[\(deep)]".utf8)) }
    let bomb = Array(repeating: UInt8(ascii: "["), count: 200_000)
    #expect(throws: ResultDocument.Invalid(why: "it nests deeper than 64")) { try ResultDocument.parse(bomb) }
  }

  @Test(arguments: [
    "", " ", "{", "{}}", "nul", "{\"a\":1,}", "'a'", "{\"a\": 1e999}", "\"\\u0000\"", "{\"\\u0000\": 1}",
    "\"\\ud800\"", "\u{FEFF}{}", "{} {}", "NaN", "\"a\nb\"", "01", "-", "1.", ".5", "+1", "1e", "[1 2]", "{\"a\" 1}",
    "{a:1}", "\"\\x41\"",
    "1e-400000", "-4.9E-400", "0.0001e-330", "{\"caf\\u00e9\": 1, \"cafe\\u0301\": 2}",
    "\"\\u12G4\"", "\"open", "[", "{\"a\":1,\"a\":2}", "/*c*/1", "Infinity", "\"\\ud800\\u0041\"", "\"\\udc00\"", "tru",
  ])
  func refuses(text: String) {
    #expect(throws: ResultDocument.Invalid.self) { try ResultDocument.parse(Array(text.utf8)) }
  }

  @Test(
    arguments: [
      [0x22, 0xFF, 0x22], [0x7B, 0x00, 0x7D, 0x00], [0x00, 0x7B, 0x00, 0x7D], [0x7B, 0x7D, 0x00],
      [0xFF, 0xFE, 0x7B, 0],
    ] as [[UInt8]])
  func refusesBytes(bytes: [UInt8]) {
    #expect(throws: ResultDocument.Invalid.self) { try ResultDocument.parse(bytes) }
  }
}
