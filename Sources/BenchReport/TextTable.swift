import Foundation

/// Columns that line up; numbers to the right.
public struct TextTable {
  private var rows: [[String]]
  private let left: Int

  /// The first `left` columns are words.
  public init(_ header: [String], left: Int) {
    rows = [header]
    self.left = left
  }

  public mutating func add(_ cells: [String]) { rows.append(cells) }

  public var text: String {
    let widths = rows[0].indices.map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      let line = row.enumerated().map { column, cell in
        // What is behind the last column is a remark.
        guard column < widths.count else { return cell }
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return column < left || column == widths.count - 1 ? cell + space : space + cell
      }.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed()) + "\n"
    }.joined()
  }
}

extension Double {
  public func shown(_ digits: Int) -> String { String(format: "%.\(digits)f", self) }
}

extension Double? {
  public func shown(_ digits: Int) -> String { map { $0.shown(digits) } ?? "-" }
}
