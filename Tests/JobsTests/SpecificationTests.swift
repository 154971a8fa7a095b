import Foundation
import Jobs
import Testing

@Suite("A specification as the database hands it over")
struct SpecificationTests {
  private func decode(_ text: String) throws -> JobSpecification {
    try JSONDecoder().decode(JobSpecification.self, from: Data(text.utf8))
  }

  @Test("code is a string or a source")
  func code() throws {
    #expect(try decode(#"{"runtime":"bash","code":"date"}"#).code == .text("date"))
    #expect(try decode(#"{"runtime":"bash","code":{"path":"a/b.sh"}}"#).code == .path("a/b.sh"))
    let digest = "sha256:" + String(repeating: "0a", count: 32)
    #expect(try decode(#"{"runtime":"bash","code":{"blob":"\#(digest)"}}"#).code == .blob(Digest(digest)!))
    #expect(try decode(#"{"runtime":"exec","argv":["/usr/bin/true"]}"#).code == nil)
  }

  @Test(
    "what no worker may guess at is an error",
    arguments: [
      #"{"runtime":"perl","code":"1"}"#, #"{"code":"1"}"#, #"{"runtime":"bash","code":{"text":"a","path":"b"}}"#,
      #"{"runtime":"bash","code":{}}"#, #"{"runtime":"bash","code":{"blob":"sha256:zz"}}"#,
      #"{"runtime":"exec","argv":"/usr/bin/true"}"#, #"{"runtime":"bash","code":"x","inputs":{"a":"b"}}"#,
    ])
  func unreadable(text: String) {
    #expect(throws: (any Error).self) { try decode(text) }
  }

  @Test("a digest has one spelling")
  func digests() {
    let hex = String(repeating: "ab", count: 32)
    #expect(Digest("sha256:" + hex)?.description == "sha256:" + hex)
    for bad in [hex, "sha256:" + hex.uppercased(), "sha256:" + hex.dropLast(), "sha512:" + hex, "sha256:" + hex + "0"] {
      #expect(Digest(bad) == nil)
    }
    #expect(Digest(sha256: Array(repeating: UInt8(0xab), count: 32)).description == "sha256:" + hex)
  }

  @Test("JSON values survive a round trip, integers as integers")
  func values() throws {
    let text = #"{"a":[1,2.5,true,null,"x"],"b":{"c":-9007199254740993}}"#
    let value = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
    #expect(value["b"]?["c"]?.integer == -9_007_199_254_740_993)
    let again = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(value))
    #expect(again == value)
  }

  @Test(
    "a number is never rounded",
    arguments: [
      "12345678901234567890", "0.1234567890123456789", "-9223372036854775809", "1.10", "1e-7", "1e300", "0.5",
    ])
  func numbers(text: String) throws {
    let spelled = try #require(JSONValue.number(spelled: text))
    let decoded = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
    #expect(spelled == decoded)
    let written = String(decoding: try JSONEncoder().encode(decoded), as: UTF8.self)
    #expect(Decimal(string: written) == Decimal(string: text) || Double(written) == Double(text))
    let digits = { (text: String) in
      text.prefix { $0 != "e" }.filter(\.isNumber).drop { $0 == "0" }.reversed().drop { $0 == "0" }
    }
    #expect(Array(digits(written)) == Array(digits(text)), "\(written)")
  }

  @Test("what could only be rounded is refused", arguments: ["1e400", String(repeating: "1", count: 39)])
  func unkeepable(text: String) {
    #expect(JSONValue.number(spelled: text) == nil)
  }
}
