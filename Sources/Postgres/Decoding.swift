import FoundationEssentials

/// A value of one column in one row, in PostgreSQL's text form; valid during one `decode`.
public struct Cell {
  /// Nil is NULL.
  public let bytes: UnsafeBufferPointer<UInt8>?

  /// The text, checked not to be NULL.
  public func text() throws(CellError) -> String {
    String(decoding: try present(), as: UTF8.self)
  }

  func present() throws(CellError) -> UnsafeBufferPointer<UInt8> {
    guard let bytes else { throw CellError("NULL where a value was expected") }
    return bytes
  }

  func shown() -> String {
    guard let bytes else { return "NULL" }
    let cut = String(decoding: bytes.prefix(Self.shownBytes), as: UTF8.self)
    return bytes.count > Self.shownBytes ? "\"\(cut)…\"" : "\"\(cut)\""
  }

  private static let shownBytes = 64
}

/// Why a cell is not of the type that was asked for.
public struct CellError: Error {
  public let message: String

  public init(_ message: String) { self.message = message }
}

/// A type that a column can be read as.
public protocol PostgresDecodable {
  static func decode(_ cell: Cell) throws(CellError) -> Self
  /// Arrays of the type. Types for which an array is no PostgreSQL array (`UInt8`: `bytea`) say so here.
  static func decodeArray(_ cell: Cell) throws(CellError) -> [Self]
}

extension PostgresDecodable {
  public static func decodeArray(_ cell: Cell) throws(CellError) -> [Self] {
    let elements: [[UInt8]?]
    do {
      elements = try ArrayLiteral.parse(try cell.present())
    } catch let malformed as ArrayLiteral.Malformed {
      throw CellError("\(cell.shown()) is no array: \(malformed.reason)")
    } catch {
      throw error as? CellError ?? CellError("\(error)")
    }
    var values: [Self] = []
    values.reserveCapacity(elements.count)
    for element in elements {
      values.append(try decode(element: element))
    }
    return values
  }

  private static func decode(element: [UInt8]?) throws(CellError) -> Self {
    guard let element else { return try decode(Cell(bytes: nil)) }
    let decoded = element.withUnsafeBufferPointer { bytes in
      Result<Self, CellError> { () throws(CellError) in try decode(Cell(bytes: bytes)) }
    }
    return try decoded.get()
  }
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> Wrapped? {
    cell.bytes == nil ? nil : try Wrapped.decode(cell)
  }
}

extension Array: PostgresDecodable where Element: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> [Element] {
    try Element.decodeArray(cell)
  }
}

extension String: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> String { try cell.text() }
}

extension Bool: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> Bool {
    let bytes = try cell.present()
    if bytes.elementsEqual("t".utf8) { return true }
    if bytes.elementsEqual("f".utf8) { return false }
    throw CellError("\(cell.shown()) is no boolean")
  }
}

extension FixedWidthInteger where Self: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> Self {
    guard let value = Self(try cell.text()) else { throw CellError("\(cell.shown()) is no \(Self.self)") }
    return value
  }
}

extension Int: PostgresDecodable {}
extension Int16: PostgresDecodable {}
extension Int32: PostgresDecodable {}
extension Int64: PostgresDecodable {}

extension UInt8: PostgresDecodable {
  /// `bytea`.
  public static func decodeArray(_ cell: Cell) throws(CellError) -> [UInt8] {
    guard let bytes = ByteaText.decode(try cell.present()) else { throw CellError("\(cell.shown()) is no bytea") }
    return bytes
  }
}

extension Double: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> Double {
    guard let value = Double(try cell.text()) else { throw CellError("\(cell.shown()) is no number") }
    return value
  }
}

extension Date: PostgresDecodable {
  public static func decode(_ cell: Cell) throws(CellError) -> Date {
    guard let date = TimestampText.decode(try cell.present()) else {
      throw CellError("\(cell.shown()) is no finite point in time")
    }
    return date
  }
}
