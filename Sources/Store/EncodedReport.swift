import FoundationEssentials
import Jobs

/// A report as `cordon.complete` takes it: the facts as one JSON text and the job's own result as another, because
/// only the second may be something the database cannot hold.
struct EncodedReport {
  let report: String
  let result: String?

  init(_ report: AttemptReport) throws {
    var facts = report
    facts.result = nil
    facts.reason = report.reason.map(Self.clean)
    facts.published = report.published.map(Self.clean)
    facts.notes = report.notes.map(Self.clean)
    for index in facts.artifacts.indices { facts.artifacts[index].path = Self.clean(facts.artifacts[index].path) }
    for index in facts.quarantined.indices {
      facts.quarantined[index].path = Self.clean(facts.quarantined[index].path)
    }
    self.report = String(decoding: try JSONEncoder().encode(facts), as: UTF8.self)
    // An empty text is no JSON, so what cannot be encoded is recorded as an invalid result.
    result = report.result.map { value in
      (try? JSONEncoder().encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
  }

  /// jsonb has no U+0000, and a completion must not fail for one in a message.
  private static func clean(_ text: String) -> String {
    guard text.utf8.contains(0) else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.map { $0 == "\0" ? "\u{FFFD}" : $0 }))
  }
}
