import Jobs

/// Columns that line up; every cell is escaped.
struct Table {
  private var rows: [[String]]

  init(_ header: [String]) {
    rows = [header]
  }

  mutating func add(_ cells: [String]) {
    rows.append(cells.map { Terminal.escape($0) })
  }

  var lines: [String] {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.enumerated().map { index, row in
      let line = zip(row, widths).map { cell, width in
        cell + String(repeating: " ", count: max(0, width - cell.count))
      }.joined(separator: "  ")
      let trimmed = String(line.reversed().drop { $0 == " " }.reversed())
      return index == 0 ? Terminal.styled(trimmed, .dim) : trimmed
    }
  }

  /// Records that the database gave as JSON texts: as they are in one array, or some members of each in columns.
  static func show(_ rows: [String], json: Bool, columns: [(title: String, member: String)]) throws {
    if json {
      Terminal.line("[" + rows.joined(separator: ",") + "]")
      return
    }
    var table = Table(columns.map(\.title))
    for row in try rows.map(parseRecord) { table.add(columns.map { RecordView.text(row[$0.member]) }) }
    for line in table.lines { Terminal.line(line) }
  }
}
