import FoundationEssentials
import Jobs

/// JSON that the database hands over: parameters of a job and results that other jobs wrote.
enum JSONValues: Fuzzer {
  static let texts = [
    #"{"agree": 854, "x": [1.5, null, true, "a\"[["]}"#,
    #"[0, -0, -12, 9223372036854775807, 9223372036854775808, 1E2, -2.5e-1, "\u00e9\ud83d\ude00\n\/\"", {}, []]"#,
    "{\"caf\u{E9}\": 1, \"cafe\u{301}\": 2}", "{\"a\": {\"b\": [[[[0.1234567890123456789]]]]}, \"a\": 1e-400000}",
    "1e300", "-0.0", "0e-999", "12345678901234567890123456789012345678", "\"\\ud800\"", "[1,]", "01", "\u{FEFF}{}",
  ]

  static var seeds: [[UInt8]] { texts.map { Array($0.utf8) } }

  static var words: [[UInt8]] {
    [
      "true", "false", "null", "\\u00", "\\ud83d", "\\ude00", "\\u0000", "e-", "E+", "0.", "1e308", "-", "{\"", "\":",
      "\",", "[[", "]]", "}}", "99999999999999999999", "\u{301}", "\u{E9}", "e\u{301}",
    ].map { Array($0.utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)) else { return }
    guard let text = try? JSONEncoder().encode(value) else { fatalError("what was decoded can be encoded") }
    guard let again = try? JSONDecoder().decode(JSONValue.self, from: text) else {
      fatalError("what was encoded can be decoded")
    }
    expect(same(value, again), "a value survives a round trip: \(value) became \(again)")
  }

  /// Equal, with numbers compared by what they amount to: 100 and 1E2 are one number in two cases of the type, and
  /// JSON has only one spelling for both once it was written.
  static func same(_ left: JSONValue, _ right: JSONValue) -> Bool {
    switch (left, right) {
    case (.array(let left), .array(let right)):
      left.count == right.count && zip(left, right).allSatisfy(same)
    case (.object(let left), .object(let right)):
      left.count == right.count && left.allSatisfy { name, value in right[name].map { same(value, $0) } ?? false }
    case (.integer(let left), .integer(let right)): left == right
    default:
      if let left = spelling(left), let right = spelling(right) { sameNumber(left, right) } else { left == right }
    }
  }

  private static func sameNumber(_ left: String, _ right: String) -> Bool {
    if left == right { return true }
    if let left = Decimal(string: left), let right = Decimal(string: right), !left.isNaN, left == right { return true }
    return Double(left) == 0 && Double(right) == 0
  }

  private static func spelling(_ value: JSONValue) -> String? {
    switch value {
    case .integer(let number): "\(number)"
    case .number(let number): "\(number)"
    case .decimal(let number): "\(number)"
    default: nil
    }
  }
}
