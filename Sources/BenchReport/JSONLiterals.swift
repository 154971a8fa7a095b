import Jobs

extension JSONValue {
  /// Null for what was not measured.
  public init(_ value: Double?, digits: Int) {
    guard let value, value.isFinite else {
      self = .null
      return
    }
    var unit = 1.0
    for _ in 0..<digits { unit *= 10 }
    self = .number((value * unit).rounded() / unit)
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements) { $1 })
  }
}
