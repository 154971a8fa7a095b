import FoundationEssentials
import Jobs

/// The members of one object of a document, read strictly. What is absent is nil; a null is a value of the wrong kind.
struct Members {
  private let path: String
  private let values: [String: JSONValue]

  init(_ value: JSONValue, _ path: String, known: Set<String>) throws(ScheduleProblem) {
    guard let values = value.object else { throw ScheduleProblem(path, "is no object") }
    if let stranger = Set(values.keys).subtracting(known).min() {
      throw ScheduleProblem(path, "'\(stranger)' is unknown; there are \(known.sorted().joined(separator: ", "))")
    }
    self.path = path == "document" ? "" : path + "."
    self.values = values
  }

  subscript(name: String) -> JSONValue? { values[name] }

  func string(_ name: String) throws(ScheduleProblem) -> String? {
    guard let value = values[name] else { return nil }
    guard let string = value.string else { throw ScheduleProblem(path + name, "is no string") }
    return string
  }

  func integer(_ name: String, in range: ClosedRange<Int>) throws(ScheduleProblem) -> Int? {
    guard let value = values[name] else { return nil }
    guard let integer = value.integer, let number = Int(exactly: integer), range.contains(number) else {
      throw ScheduleProblem(path + name, "is no whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// One of the words of a type.
  func choice<Choice: RawRepresentable & CaseIterable>(
    _ name: String
  ) throws(ScheduleProblem) -> Choice? where Choice.RawValue == String {
    guard let word = try string(name) else { return nil }
    guard let choice = Choice(rawValue: word) else {
      let words = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw ScheduleProblem(path + name, "'\(word)' is unknown; use one of \(words)")
    }
    return choice
  }

  /// An array of strings, each of which is read by `read`, none twice.
  func set<Element: Hashable>(
    _ name: String, as right: String, _ read: (String) -> Element?
  ) throws(ScheduleProblem) -> Set<Element>? {
    guard let value = values[name] else { return nil }
    guard let entries = value.array else { throw ScheduleProblem(path + name, "is no array") }
    var elements: Set<Element> = []
    for entry in entries {
      guard let text = entry.string, let element = read(text) else {
        throw ScheduleProblem(path + name, "\(entry.string.map { "'\($0)'" } ?? "an entry") is not \(right)")
      }
      guard elements.insert(element).inserted else { throw ScheduleProblem(path + name, "holds '\(text)' twice") }
    }
    return elements
  }

  /// A date and time of day with its offset from UTC.
  func instant(_ name: String) throws(ScheduleProblem) -> Date? {
    guard let text = try string(name) else { return nil }
    for fractions in [false, true] {
      if let date = try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: fractions)) {
        return date
      }
    }
    throw ScheduleProblem(path + name, "'\(text)' is no instant; use one such as 2026-10-01T00:00:00Z")
  }
}
