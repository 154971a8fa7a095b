import CPostgres

/// One row of an answer. Rows share the answer's memory, which goes when the last of them goes.
public struct Row: Sendable {
  let answer: Answer
  let index: Int32

  /// The names of the columns in order; a name may occur twice.
  public var columns: [String] { answer.columns }

  /// The value of a column.
  ///
  /// Throws `PostgresError` of kind `decoding`, naming the column, when there is no such column, when it is NULL
  /// and `T` is no Optional, or when its text is no `T`.
  public func get<T: PostgresDecodable>(_ column: String, as type: T.Type = T.self) throws(PostgresError) -> T {
    guard let position = answer.positions[column] else {
      throw PostgresError(
        .decoding, "no column \"\(column)\" among \(answer.columns.joined(separator: ", "))",
        statement: answer.statement)
    }
    return try decode(position, name: column)
  }

  /// The value of the column at a position from 0.
  public func get<T: PostgresDecodable>(at position: Int, as type: T.Type = T.self) throws(PostgresError) -> T {
    guard answer.columns.indices.contains(position) else {
      throw PostgresError(
        .decoding, "no column \(position) among \(answer.columns.count)", statement: answer.statement)
    }
    return try decode(Int32(position), name: answer.columns[position])
  }

  private func decode<T: PostgresDecodable>(_ position: Int32, name: String) throws(PostgresError) -> T {
    do {
      return try T.decode(Cell(bytes: answer.bytes(row: index, column: position)))
    } catch {
      throw PostgresError(.decoding, "column \"\(name)\": \(error.message)", statement: answer.statement)
    }
  }
}

/// A libpq result. Its memory is never written after the result is complete, so any thread may read it.
final class Answer: @unchecked Sendable {
  let statement: String?
  let columns: [String]
  let positions: [String: Int32]
  let result: OpaquePointer

  /// Takes over `result`.
  init(_ result: OpaquePointer, statement: String?) {
    self.result = result
    self.statement = statement
    columns = (0..<PQnfields(result)).map { String(cString: PQfname(result, $0)) }
    positions = Dictionary(
      columns.enumerated().map { ($1, Int32($0)) }, uniquingKeysWith: { first, _ in first })
  }

  deinit { PQclear(result) }

  var rows: [Row] { (0..<PQntuples(result)).map { Row(answer: self, index: $0) } }

  /// Valid while the answer lives; nil is NULL.
  func bytes(row: Int32, column: Int32) -> UnsafeBufferPointer<UInt8>? {
    guard PQgetisnull(result, row, column) == 0 else { return nil }
    let start = PQgetvalue(result, row, column)
    return UnsafeBufferPointer(
      start: UnsafeRawPointer(start!).assumingMemoryBound(to: UInt8.self),
      count: Int(PQgetlength(result, row, column)))
  }
}
