import FoundationEssentials

/// Any JSON value. A number is kept exactly: what neither an Int64 nor a Double holds is kept as a decimal of up to
/// 38 digits, because a silently rounded amount is worse than a refused one.
public enum JSONValue: Codable, Hashable, Sendable {
  case null
  case bool(Bool)
  case integer(Int64)
  case number(Double)
  /// A number that a Double would round.
  case decimal(Decimal)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let number = try Self.number(in: container) {
      self = number
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  /// Nil for what is no number. The decoder rounds without a word where a type does not hold the number (as an Int64
  /// 0.99999999999999999999 is 1 and 1e-330 is 0 to it), so each answer is checked against the others.
  private static func number(in container: any SingleValueDecodingContainer) throws -> JSONValue? {
    let exact = try? container.decode(Decimal.self)
    let double = try? container.decode(Double.self)
    if let value = try? container.decode(Int64.self) {
      guard let exact else {
        // Beyond a Decimal's exponents only zero is an integer of 64 bits.
        if double == 0 { return .integer(value) }
        throw DecodingError.dataCorruptedError(in: container, debugDescription: "a number is too close to zero")
      }
      if exact == Decimal(value) { return .integer(value) }
    }
    guard let double else { return nil }
    guard let exact else { return .number(double) }
    if isExact(double, exact) { return .number(double) }
    guard "\(exact.significand.magnitude)".count <= maximumDigits else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "a number has more than \(maximumDigits) digits")
    }
    return .decimal(exact)
  }

  /// Significant digits that a Decimal always holds.
  private static let maximumDigits = 38

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .integer(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .decimal(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  /// Whether the Double, as it would be written, is the very number.
  private static func isExact(_ double: Double, _ decimal: Decimal) -> Bool {
    Decimal(string: "\(double)") == decimal
  }

  /// A number from its JSON spelling; nil when it is beyond a Double or has more digits than can be kept.
  public static func number(spelled text: String) -> JSONValue? {
    if let integer = Int64(text) { return .integer(integer) }
    guard let double = Double(text), double.isFinite else { return nil }
    let digits = text.prefix { $0 != "e" && $0 != "E" }.filter(\.isNumber)
    let significant = digits.drop { $0 == "0" }.reversed().drop { $0 == "0" }
    guard significant.count <= maximumDigits else { return nil }
    // Beyond a Decimal's exponents there is only the Double.
    guard let decimal = Decimal(string: text), !decimal.isNaN, decimal.isZero == double.isZero else {
      return .number(double)
    }
    return isExact(double, decimal) ? .number(double) : .decimal(decimal)
  }

  /// The member of an object; nil for anything else.
  public subscript(key: String) -> JSONValue? {
    if case .object(let members) = self { members[key] } else { nil }
  }

  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
  /// Any number, however it was written.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .decimal(let value): Double("\(value)")
    default: nil
    }
  }
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  public var object: [String: JSONValue]? { if case .object(let value) = self { value } else { nil } }
}
