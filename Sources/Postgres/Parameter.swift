import FoundationEssentials

/// One value for a `$n` of a statement. Bytes travel in binary, everything else as text whose type the statement
/// decides.
public struct Parameter: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByNilLiteral
{
  enum Content: Sendable, Equatable {
    case null
    case text(String)
    case binary([UInt8])
  }

  let content: Content

  private init(text: String?) { content = text.map { .text($0) } ?? .null }

  public init(_ value: String?) { self.init(text: value) }
  public init(_ value: Substring?) { self.init(text: value.map { String($0) }) }
  public init<Value: FixedWidthInteger>(_ value: Value?) { self.init(text: value.map { String($0) }) }
  public init(_ value: Double?) { self.init(text: value.map(Self.spell)) }
  public init(_ value: Bool?) { self.init(text: value.map { $0 ? "true" : "false" }) }
  /// A point in time, in microseconds, as `timestamptz` reads it.
  public init(_ value: Date?) { self.init(text: value.map(TimestampText.encode)) }
  /// `bytea`.
  public init(_ value: [UInt8]?) { content = value.map { .binary($0) } ?? .null }
  public init(_ values: [String]?) { self.init(text: values.map { ArrayLiteral.encode($0) }) }
  public init(_ values: [String?]?) { self.init(text: values.map { ArrayLiteral.encode($0) }) }
  public init(_ values: [Int64]?) { self.init(text: values.map { ArrayLiteral.encode($0.map { String($0) }) }) }
  public init(_ values: [Int]?) { self.init(text: values.map { ArrayLiteral.encode($0.map { String($0) }) }) }
  public init(_ values: [Double]?) { self.init(text: values.map { ArrayLiteral.encode($0.map(Self.spell)) }) }
  public init(_ values: [Bool]?) { self.init(text: values.map { ArrayLiteral.encode($0.map { $0 ? "t" : "f" }) }) }
  /// `bytea[]`.
  public init(_ values: [[UInt8]]?) { self.init(text: values.map { ArrayLiteral.encode($0.map(ByteaText.encode)) }) }

  public init(stringLiteral value: String) { self.init(text: value) }
  public init(integerLiteral value: Int64) { self.init(text: String(value)) }
  public init(floatLiteral value: Double) { self.init(text: Self.spell(value)) }
  public init(booleanLiteral value: Bool) { self.init(text: value ? "true" : "false") }
  public init(nilLiteral: ()) { content = .null }

  /// PostgreSQL reads Swift's shortest round-trip spelling, but for the two infinities.
  private static func spell(_ value: Double) -> String {
    value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : value.isNaN ? "NaN" : String(value)
  }
}
