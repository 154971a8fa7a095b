import Foundation
import Jobs
import TestKit
import Testing

@testable import Credentials

@Suite struct RedactorTests {
  private let text = "p&ss<w\"o'rd/ä+=~ \\1"

  private func redactor(_ secrets: [(String, String)]) throws -> Redactor {
    try Redactor(secrets.map { (name: $0.0, secret: try Secret($0.1, version: "1")) })
  }

  /// What well-known encoders make of a secret, not by the code that is tested.
  private func spellings(_ text: String) throws -> [String] {
    let bytes = Data(text.utf8)
    func percent(_ kept: String) -> String {
      text.addingPercentEncoding(withAllowedCharacters: CharacterSet(charactersIn: kept))!
    }
    let alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    let strict = percent(alphanumeric + "-._~")
    let base64 = bytes.base64EncodedString()
    let urlSafe = base64.replacing("+", with: "-").replacing("/", with: "_")
    let slashes = String(decoding: try JSONEncoder().encode([text]), as: UTF8.self)
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    let json = String(decoding: try encoder.encode([text]), as: UTF8.self)
    let hex = bytes.map { String(format: "%02x", $0) }.joined()
    let every = bytes.map { String(format: "%%%02X", $0) }.joined()
    return [
      text, base64, urlSafe, base64.replacing("=", with: ""), urlSafe.replacing("=", with: ""), hex, hex.uppercased(),
      strict,
      percent(alphanumeric + "-._~!'()*"), percent(alphanumeric + "-._~/"), every, every.lowercased(),
      percent(alphanumeric + "-._~ ").replacing(" ", with: "+"), String(json.dropFirst(2).dropLast(2)),
      String(slashes.dropFirst(2).dropLast(2)),
      text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("ä", with: "\\u00e4"),
      text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing("\"", with: "&quot;").replacing(
        "'", with: "&#39;"),
      text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing("\"", with: "&quot;").replacing(
        "'", with: "&#x27;"),
    ]
  }

  @Test("CR-13: every common spelling is replaced, wherever the stream is cut")
  func everySpellingAtEverySplit() throws {
    let redactor = try redactor([("index", text)])
    var splits = 0
    for spelling in try spellings(text) {
      let stream = Array("before \(spelling) behind".utf8)
      for split in 0...stream.count {
        var output = redactor.stream()
        var seen = output.push(stream[..<split])
        #expect(output.heldBack < redactor.automaton.longest)
        seen += output.push(stream[split...])
        seen += output.finish()
        #expect(String(decoding: seen, as: UTF8.self) == "before [redacted:index] behind", "\(spelling) at \(split)")
        splits += 1
      }
    }
    print("redactor: \(try spellings(text).count) spellings, \(splits) splits")
  }

  @Test("CR-13: Base64 is found behind any bytes and before any bytes")
  func base64InTheMiddle() throws {
    let redactor = try redactor([("index", text)])
    for before in 0...5 {
      for behind in 0...5 {
        let bytes =
          Data(String(repeating: "a", count: before).utf8) + Data(text.utf8)
          + Data(String(repeating: "z", count: behind).utf8)
        for encoded in [
          bytes.base64EncodedString(), bytes.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_"),
        ] {
          let clean = redactor.redact(encoded)
          #expect(clean.contains("[redacted:index]"))
          // What is left of the bytes around it, and at most the two characters that they share with the secret.
          let left = clean.replacing("[redacted:index]", with: "")
          #expect(left.utf8.count <= (before + 2) / 3 * 4 + (behind + 2) / 3 * 4 + 4, "\(clean)")
        }
      }
    }
  }

  @Test func secretsThatOverlapAreOneMarkerAndThoseBesideEachOtherTwo() throws {
    let redactor = try redactor([("a", "abcdefgh-1"), ("b", "fgh-1jklmn"), ("c", "cdefgh-1jkl")])
    #expect(redactor.redact("<abcdefgh-1jklmn>") == "<[redacted:a]>")
    #expect(redactor.redact("<abcdefgh-1abcdefgh-1>") == "<[redacted:a][redacted:a]>")
    #expect(redactor.redact("<abcdefgh-1fgh-1jklmn>") == "<[redacted:a][redacted:b]>")
    #expect(redactor.redact("<cdefgh-1jkl>") == "<[redacted:c]>")
    #expect(redactor.redact("<abcdefgh-") == "<abcdefgh-")
    // A secret inside another, and one that stands behind its own beginning.
    let nested = try self.redactor([("inner", "12345678"), ("outer", "0012345678")])
    #expect(nested.redact("012345678 0012345678") == "0[redacted:inner] [redacted:outer]")
    #expect(
      try self.redactor([("x", "aaaaaaaa")]).redact("-" + String(repeating: "a", count: 13) + "-") == "-[redacted:x]-")
  }

  @Test func itDoesWhatTheNaiveWayDoesOnRandomStreamsInRandomChunks() throws {
    var random = Seeded(14)
    var replaced = 0
    for _ in 0..<400 {
      // Few letters, so that beginnings repeat and secrets overlap.
      let secrets = (0..<Int.random(in: 1...4, using: &random)).map { index in
        ("s\(index)", letters(Int.random(in: 8...12, using: &random), &random))
      }
      let redactor = try redactor(secrets)
      var stream: [UInt8] = []
      while stream.count < 400 {
        stream += Array(letters(Int.random(in: 0...9, using: &random), &random).utf8)
        let spellings = SecretEncodings.all(of: Array(secrets.randomElement(using: &random)!.1.utf8))
        stream += spellings.randomElement(using: &random)!.prefix(Int.random(in: 5...40, using: &random))
      }
      let expected = naive(stream, secrets)
      var output = redactor.stream()
      var seen: [UInt8] = []
      var rest = stream[...]
      while !rest.isEmpty {
        let count = min(rest.count, Int.random(in: 1...30, using: &random))
        seen += output.push(rest.prefix(count))
        rest = rest.dropFirst(count)
      }
      seen += output.finish()
      #expect(seen == expected)
      replaced += String(decoding: expected, as: UTF8.self).components(separatedBy: "[redacted:").count - 1
    }
    #expect(replaced > 400)
    print("redactor: 400 random streams, \(replaced) markers")
  }

  private func letters(_ count: Int, _ random: inout Seeded) -> String {
    String((0..<count).map { _ in "ab".randomElement(using: &random)! })
  }

  /// Looks for every spelling at every place, then joins what overlaps.
  private func naive(_ stream: [UInt8], _ secrets: [(String, String)]) -> [UInt8] {
    var spans: [(start: Int, end: Int, name: String)] = []
    for (name, text) in secrets {
      for pattern in SecretEncodings.all(of: Array(text.utf8)) where pattern.count <= stream.count {
        for start in 0...(stream.count - pattern.count)
        where stream[start..<(start + pattern.count)].elementsEqual(pattern) {
          spans.append((start, start + pattern.count, name))
        }
      }
    }
    spans.sort { ($0.start, -$0.end, $0.name) < ($1.start, -$1.end, $1.name) }
    var output: [UInt8] = []
    var position = 0
    for span in spans {
      if span.start < position {
        position = max(position, span.end)
        continue
      }
      output += stream[position..<span.start] + Array("[redacted:\(span.name)]".utf8)
      position = span.end
    }
    return output + stream[position...]
  }

  @Test("CR-14: the work grows as the stream does, whatever the stream is")
  func linear() throws {
    let redactor = try redactor([("x", String(repeating: "a", count: 40) + "b"), ("y", text)])
    // Almost the secret again and again, which takes a naive matcher the product of both lengths.
    for unit in [String(repeating: "a", count: 40) + "c", "a", text.dropLast() + "?", "plain words of a log\n"]
      as [String]
    {
      var counts: [Int] = []
      for times in [1, 2, 4] {
        let bytes = Array(String(repeating: unit, count: times * 65_536 / unit.utf8.count).utf8)
        var stream = redactor.stream()
        let started = ContinuousClock.now
        _ = stream.push(bytes)
        _ = stream.finish()
        let time = ContinuousClock.now - started
        #expect(stream.steps <= 2 * bytes.count)
        counts.append(stream.steps)
        if times == 4 {
          print("redactor: \(bytes.count) bytes in \(stream.steps) steps, \(time), of '\(unit.prefix(12))…'")
        }
      }
      for (less, more) in zip(counts, counts.dropFirst()) { #expect(abs(Double(more) / Double(less) - 2) < 0.05) }
    }
  }

  @Test(
    "CR-13: a secret that lies across the moment at which another one is looked for as well is replaced, once",
    arguments: 1...12)
  func handedOver(cut: Int) throws {
    let first = ("first", try Secret("first-secret", version: "1"))
    let both = [first, ("second", try Secret("second-secret", version: "1"))]
    let text = Array("a first-secret b second-secret c".utf8)
    // Somewhere in the first secret, and at its ends.
    let place = 2 + cut
    var stream = try Redactor([first]).stream()
    var output = stream.push(text[..<place])
    var next = try Redactor(both).stream()
    output += next.push(stream.handOver())
    output += next.push(text[place...])
    output += next.finish()
    #expect(String(decoding: output, as: UTF8.self) == "a [redacted:first] b [redacted:second] c")
    #expect(stream.heldBack == 0)
  }

  @Test("CR-13: results lose secrets from texts, names and numbers")
  func results() throws {
    let redactor = try redactor([("index", "hunter2-hunter2"), ("pin", "123456789012")])
    let result = try json(
      """
      {"ok": true, "none": null, "count": 12, "n": 123456789012, "list": ["x hunter2-hunter2 y", 1.5],
       "hunter2-hunter2": {"deep": "aHVudGVyMi1odW50ZXIy"}, "68756e746572322d68756e74657232": 2}
      """)
    let clean = try json(
      """
      {"ok": true, "none": null, "count": 12, "n": "[redacted:pin]", "list": ["x [redacted:index] y", 1.5],
       "[redacted:index] (2)": {"deep": "[redacted:index]"}, "[redacted:index]": 2}
      """)
    #expect(redactor.redact(result) == clean)
    #expect(redactor.redact(clean) == clean)
  }

  @Test("CR-14: what is no secret is left alone, and more secrets than fit are refused")
  func bounds() throws {
    let redactor = try redactor([("index", "hunter2-hunter2")])
    for innocent in [
      "", "hunter2", "hunter2-hunter", "aHVudGVy", "\u{0}\u{ff}", String(repeating: "hunter2-", count: 1),
    ] {
      #expect(redactor.redact(innocent) == innocent)
    }
    #expect(try Redactor([]).redact("anything") == "anything")
    let long = try (0..<3).map {
      (name: "k\($0)", secret: try Secret(String(repeating: "k\($0)", count: 30_000), version: "1"))
    }
    #expect(throws: CredentialError.self) { try Redactor(long) }
  }
}
