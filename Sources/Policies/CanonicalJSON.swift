import Crypto
import FoundationEssentials
import Jobs

/// RFC 8785: one text for one value, so that a document's digest does not depend on who wrote it down.
///
/// Members are sorted by the UTF-16 code units of their names, texts are escaped only where JSON says they must be, and a
/// number is the shortest decimal that reads back as the same double, written as ECMAScript writes it.
public enum CanonicalJSON {
  /// A number that no double is.
  public struct Inexact: Error, Equatable {
    public let number: String
  }

  public static func text(_ value: JSONValue) throws(Inexact) -> String {
    var text = ""
    try write(value, to: &text)
    return text
  }

  /// The name of a document: the digest of its canonical text.
  public static func digest(_ value: JSONValue) throws(Inexact) -> Jobs.Digest {
    Jobs.Digest(sha256: SHA256.hash(data: Data(try text(value).utf8)))
  }

  private static func write(_ value: JSONValue, to text: inout String) throws(Inexact) {
    switch value {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .integer(let value):
      guard Int64(exactly: Double(value)) == value else { throw Inexact(number: "\(value)") }
      text += number(Double(value))
    case .number(let value): text += number(value)
    case .decimal(let value): throw Inexact(number: "\(value)")
    case .string(let value): quote(value, to: &text)
    case .array(let values):
      text += "["
      for (index, value) in values.enumerated() {
        if index > 0 { text += "," }
        try write(value, to: &text)
      }
      text += "]"
    case .object(let members):
      text += "{"
      for (index, name) in members.keys.sorted(by: { $0.utf16.lexicographicallyPrecedes($1.utf16) }).enumerated() {
        if index > 0 { text += "," }
        quote(name, to: &text)
        text += ":"
        try write(members[name] ?? .null, to: &text)
      }
      text += "}"
    }
  }

  /// A string as it stands in a canonical text.
  package static func quoted(_ string: String) -> String {
    var text = ""
    quote(string, to: &text)
    return text
  }

  private static func quote(_ string: String, to text: inout String) {
    text += "\""
    guard string.utf8.contains(where: { $0 < 32 || $0 == 34 || $0 == 92 }) else {
      text += string
      text += "\""
      return
    }
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\u{8}": text += "\\b"
      case "\t": text += "\\t"
      case "\n": text += "\\n"
      case "\u{c}": text += "\\f"
      case "\r": text += "\\r"
      case "\0"..<" ":
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }

  /// ECMAScript's Number::toString. Swift's own description has the same shortest digits and puts them otherwise.
  private static func number(_ value: Double) -> String {
    precondition(value.isFinite, "JSON has no such number")
    if value == 0 { return "0" }
    let sign = value < 0 ? "-" : ""
    let (digits, point) = shortest(value.magnitude)
    let count = digits.count
    switch point {
    case count...21: return sign + digits + String(repeating: "0", count: point - count)
    case 1..<max(count, 1):
      let whole = digits.index(digits.startIndex, offsetBy: point)
      return sign + digits[..<whole] + "." + digits[whole...]
    case -5...0: return sign + "0." + String(repeating: "0", count: -point) + digits
    default:
      let exponent = point - 1
      let fraction = count > 1 ? "." + digits.dropFirst() : ""
      return sign + digits.prefix(1) + fraction + "e" + (exponent < 0 ? "-" : "+") + "\(abs(exponent))"
    }
  }

  /// The significant digits, and where the point stands before or behind the first of them.
  private static func shortest(_ value: Double) -> (digits: String, point: Int) {
    let spelled = value.description.split(separator: "e")
    let parts = spelled[0].split(separator: ".")
    let fraction = parts.count > 1 ? parts[1] : ""
    let exponent = spelled.count > 1 ? Int(spelled[1]) ?? 0 : 0
    let all = parts[0] + fraction
    let leading = all.prefix { $0 == "0" }.count
    var digits = all.dropFirst(leading)
    while digits.last == "0" { digits.removeLast() }
    return (String(digits), parts[0].count + exponent - leading)
  }
}
