/// One of the fields of a cron expression.
public enum CronField: String, CaseIterable, Sendable {
  case second
  case minute
  case hour
  case dayOfMonth = "day of month"
  case month
  case dayOfWeek = "day of week"

  /// The numbers that may stand in the field. A day of week of 7 is Sunday, as 0 is.
  var bounds: ClosedRange<Int> {
    switch self {
    case .second, .minute: 0...59
    case .hour: 0...23
    case .dayOfMonth: 1...31
    case .month: 1...12
    case .dayOfWeek: 0...7
    }
  }

  /// Names that stand for numbers, the first for the least number.
  var names: [String] {
    switch self {
    case .month: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    case .dayOfWeek: Weekday.abbreviations
    default: []
    }
  }

  /// What may stand in the field, for messages.
  var advice: String {
    let numbers = "\(bounds.lowerBound) to \(bounds.upperBound)"
    switch self {
    case .second, .minute, .hour: return "use \(numbers), *, lists, ranges or steps"
    case .dayOfMonth: return "use \(numbers), *, lists, ranges, steps, L, L-3, LW or 15W"
    case .month: return "use \(numbers) or JAN to DEC, *, lists, ranges or steps"
    case .dayOfWeek: return "use \(numbers) or SUN to SAT, *, lists, ranges, steps, MON#2 or FRIL"
    }
  }
}

/// Why a text is no cron expression, in one line: the field, what stands there, and what would be right.
public struct CronProblem: Error, Equatable, CustomStringConvertible {
  /// Nil where the expression as a whole is at fault.
  public let field: CronField?
  public let what: String

  init(_ field: CronField?, _ what: String) {
    self.field = field
    self.what = what
  }

  public var description: String { field.map { "\($0.rawValue): \(what)" } ?? what }
}

/// The numbers a field admits, as bits, and how its text was written.
struct CronNumbers: Hashable, Sendable {
  var bits: UInt64 = 0

  func contains(_ number: Int) -> Bool { bits & (1 << UInt64(number)) != 0 }

  /// The least number at or above `number`.
  func first(from number: Int) -> Int? {
    let rest = bits & (UInt64.max << UInt64(number))
    return rest == 0 ? nil : rest.trailingZeroBitCount
  }

  mutating func insert(_ number: Int) { bits |= 1 << UInt64(number) }

  func isSuperset(of range: ClosedRange<Int>) -> Bool { range.allSatisfy(contains) }
}

/// Reads the items that every field knows: `*`, a number or name, a range, each with a step.
struct CronItemReader {
  let field: CronField

  /// Adds what one item of a list admits.
  func read(_ item: Substring, into numbers: inout CronNumbers) throws(CronProblem) {
    let parts = item.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    let step = try parts.count == 2 ? self.step(parts[1]) : 1
    let range: ClosedRange<Int>
    if parts[0] == "*" {
      // Seven days make a week: with 0 and 7 both in it, a step would count Sunday twice.
      range = field == .dayOfWeek ? 0...6 : field.bounds
    } else {
      let ends = parts[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
      let first = try number(ends[0])
      if ends.count == 2 {
        range = try self.range(first, try number(ends[1]), item)
      } else {
        // A number with a step counts from it to the end.
        range = first...(parts.count == 2 ? max(first, field == .dayOfWeek ? 6 : field.bounds.upperBound) : first)
      }
    }
    for number in stride(from: range.lowerBound, through: range.upperBound, by: step) {
      numbers.insert(field == .dayOfWeek ? number % 7 : number)
    }
  }

  /// A number or a name.
  func number(_ text: Substring) throws(CronProblem) -> Int {
    if let index = field.names.firstIndex(of: text.lowercased()) { return index + (field == .month ? 1 : 0) }
    guard !text.isEmpty, text.utf8.count <= 3, text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(text)
    else { throw CronProblem(field, text.isEmpty ? "a number is missing; \(field.advice)" : unknown(text)) }
    guard field.bounds.contains(number) else {
      throw CronProblem(
        field, "\(text) is out of range; use \(field.bounds.lowerBound) to \(field.bounds.upperBound)")
    }
    return number
  }

  func unknown(_ text: Substring) -> String { "'\(text)' is unknown; \(field.advice)" }

  private func step(_ text: Substring) throws(CronProblem) -> Int {
    guard text.utf8.count <= 3, text.utf8.allSatisfy({ (48...57).contains($0) }), let step = Int(text),
      (1...field.bounds.upperBound).contains(step)
    else { throw CronProblem(field, "the step '\(text)' is not one of 1 to \(field.bounds.upperBound)") }
    return step
  }

  private func range(_ first: Int, _ last: Int, _ item: Substring) throws(CronProblem) -> ClosedRange<Int> {
    if first <= last { return first...last }
    // A week has no beginning that everybody agrees on: FRI-MON and 7-2 say what they mean. Other fields have one.
    if field == .dayOfWeek { return first == 7 ? 0...last : first...(last + 7) }
    let bounds = field.bounds
    let second = last == bounds.lowerBound ? "\(last)" : "\(bounds.lowerBound)-\(last)"
    throw CronProblem(field, "'\(item)' runs backwards; use \(first)-\(bounds.upperBound),\(second)")
  }
}
