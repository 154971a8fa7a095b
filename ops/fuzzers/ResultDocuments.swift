import FoundationEssentials
import Jobs

@testable import Sandbox

/// `result.json`, which is the job's own.
enum ResultDocuments: Fuzzer {
  static var seeds: [[UInt8]] { JSONValues.seeds + [Array(repeating: UInt8(ascii: "["), count: 80)] }
  static var words: [[UInt8]] { JSONValues.words }

  static func run(_ bytes: [UInt8]) {
    guard let value = try? ResultDocument.parse(bytes) else { return }
    checkStorable(value, depth: 0)
    guard let text = try? JSONEncoder().encode(value) else { fatalError("a result can be encoded") }
    guard let again = try? ResultDocument.parse(Array(text)) else {
      fatalError("a result that was encoded is one still: \(String(decoding: text, as: UTF8.self))")
    }
    expect(JSONValues.same(value, again), "a result survives a round trip: \(value) became \(again)")
    // Another reader, which takes more than RFC 8259: whatever this one takes, that one reads alike.
    guard let other = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)) else {
      fatalError("what this reader takes every reader takes")
    }
    expect(JSONValues.same(value, other), "every reader reads the same: \(value), \(other)")
  }

  /// What the database cannot keep would fail the completion of the whole attempt.
  private static func checkStorable(_ value: JSONValue, depth: Int) {
    expect(depth <= ResultDocument.maximumDepth, "a result nests only so deep")
    switch value {
    case .string(let text): expect(!text.utf8.contains(0), "no text of a result has a NUL")
    case .array(let elements): for element in elements { checkStorable(element, depth: depth + 1) }
    case .object(let members):
      for (name, member) in members {
        expect(!name.utf8.contains(0), "no name of a result has a NUL")
        checkStorable(member, depth: depth + 1)
      }
    case .number(let number): expect(number.isFinite, "every number of a result is one")
    case .decimal(let number): expect(!number.isNaN, "every number of a result is one")
    case .null, .bool, .integer: break
    }
  }
}
