import Foundation
import Jobs

/// The record of an attempt as a person reads it. Every string in it may come from a hostile job and is escaped.
struct RecordView {
  private let record: JSONValue

  init(_ record: JSONValue) {
    self.record = record
  }

  /// A JSON scalar for a table or a line: `-` where nothing is known.
  static func text(_ value: JSONValue?) -> String {
    switch value {
    case nil, .null: "-"
    case .string(let text): text
    case .integer(let number): String(number)
    case .number(let number): String(number)
    case .decimal(let number): "\(number)"
    case .bool(let flag): String(flag)
    case .array(let items): items.map { text($0) }.joined(separator: ", ")
    case .object: "…"
    }
  }

  /// The few lines that follow a run.
  func summary(terminal: Bool) -> [String] {
    var lines = [outcome(terminal: terminal)]
    if let reason = record["reason"]?.string { lines.append("  reason     " + Terminal.escape(reason)) }
    if let used = usage { lines.append("  used       " + used) }
    if let result = record["result"], result != .null { lines.append("  result     " + Self.compact(result)) }
    let artifacts = record["artifacts"]?.array ?? []
    if !artifacts.isEmpty {
      lines.append("  artifacts  \(artifacts.count) in " + Terminal.escape(Self.text(record["published"])))
    }
    let quarantined = record["quarantined"]?.array ?? []
    if !quarantined.isEmpty { lines.append("  refused    \(quarantined.count) outputs: `cordon show` lists them") }
    lines.append("  job        " + Terminal.escape(Self.text(record["job"])))
    return lines
  }

  /// Everything, in sections.
  func full() -> [String] {
    var lines = [outcome(terminal: Terminal.outputIsTerminal)]
    func field(_ name: String, _ value: String?) {
      guard let value, value != "-" else { return }
      let padding = String(repeating: " ", count: max(1, 14 - name.count))
      lines.append("  \(name)\(padding)\(Terminal.escape(value))")
    }
    func section(_ title: String) { lines += ["", Terminal.styled(title, .strong)] }
    let attribution = record["attribution"]

    for name in ["job", "queue", "state", "attempt", "reason", "enqueued_at", "started_at", "finished_at"] {
      field(name, Self.text(record[name]))
    }
    field("notes", record["notes"]?.array.map { $0.map { Self.text($0) }.joined(separator: ", ") }.flatMap(nonempty))
    field("used", usage)
    for stream in ["stdout", "stderr"] {
      guard let bytes = record[stream]?["bytes"]?.integer else { continue }
      let cut = record[stream]?["truncated"] == .bool(true) ? ", truncated" : ""
      field(stream, "\(bytes) bytes\(cut)")
    }
    if let result = record["result"], result != .null { field("result", Self.compact(result)) }
    if let report = record["progress"]?["report"] {
      field("progress", "\(Self.compact(report)) at \(Self.text(record["progress"]?["at"]))")
    }

    section("Attribution")
    for name in ["enqueued_by", "retry_of", "tenant", "worker", "worker_role", "host", "build", "policy", "code"] {
      field(name, Self.text(attribution?[name]))
    }
    if let behalf = attribution?["on_behalf_of"], behalf != .null {
      field("on behalf of", "\(Self.text(behalf["person"])) for \(Self.text(behalf["scopes"]))")
    }
    for input in attribution?["inputs"]?.array ?? [] {
      field("input", "\(Self.text(input["name"]))  \(Self.text(input["sha256"]))")
    }
    if let isolation = attribution?["isolation"], isolation != .null {
      field("cgroup", Self.text(isolation["cgroup"]))
      field("namespaces", Self.text(isolation["namespaces"]))
      field("filter", Self.text(isolation["filter"]))
      field("uid", Self.text(isolation["uid"]))
      field("waivers", isolation["waivers"]?.array.map { $0.isEmpty ? "none" : Self.text(.array($0)) })
      field("outputs on", isolation["outputs"].map(Self.text))
    }

    let artifacts = record["artifacts"]?.array ?? []
    if !artifacts.isEmpty {
      section("Artifacts in \(Terminal.escape(Self.text(record["published"])))")
      for artifact in artifacts {
        lines.append(
          "  "
            + Terminal.escape(
              "\(Self.text(artifact["sha256"]))  \(Self.text(artifact["bytes"])) bytes  \(Self.text(artifact["path"]))")
        )
      }
    }
    let quarantined = record["quarantined"]?.array ?? []
    if !quarantined.isEmpty {
      section("Refused outputs")
      for entry in quarantined {
        lines.append("  " + Terminal.escape(Self.text(entry["reason"]) + "  " + Self.text(entry["path"])))
      }
    }
    let attempts = record["attempts"]?.array ?? []
    if attempts.count > 1 {
      section("Attempts")
      for attempt in attempts {
        lines.append(
          "  " + Terminal.escape(Self.text(attempt["attempt"]) + "  " + Self.text(attempt["outcome"]))
            + "  " + Terminal.escape(Self.text(attempt["finished_at"])))
      }
    }
    return lines
  }

  private func outcome(terminal: Bool) -> String {
    let name = record["outcome"]?.string ?? record["state"]?.string ?? "unknown"
    var text = name
    if let code = record["exit_code"]?.integer, code != 0 { text += " with exit code \(code)" }
    if let signal = record["signal"]?.integer { text += " by signal \(signal)" }
    let style: Terminal.Style = name == "succeeded" ? .good : record["outcome"]?.string == nil ? .dim : .bad
    return Terminal.styled(Terminal.escape(text), style, terminal: terminal)
  }

  private var usage: String? {
    guard let usage = record["usage"], usage != .null else { return nil }
    var parts = [("wall_seconds", "s wall"), ("cpu_seconds", "s cpu")].compactMap { name, unit in
      usage[name]?.double.map { String(format: "%.3f ", $0) + unit }
    }
    if let peak = usage["memory_peak_bytes"]?.double {
      parts.append(String(format: "%.1f MiB peak", peak / Double(1 << 20)))
    }
    return parts.joined(separator: ", ")
  }

  private func nonempty(_ text: String) -> String? { text.isEmpty ? nil : text }

  /// One line of JSON, escaped for a terminal.
  static func compact(_ value: JSONValue) -> String {
    let text: String
    switch value {
    case .null: text = "null"
    case .bool, .integer, .number, .decimal: text = Self.text(value)
    case .string(let string): text = "\"\(Terminal.escape(string))\""
    case .array(let items): text = "[" + items.map(compact).joined(separator: ", ") + "]"
    case .object(let members):
      text =
        "{"
        + members.sorted { $0.key < $1.key }.map { "\"\(Terminal.escape($0))\": \(compact($1))" }
        .joined(separator: ", ") + "}"
    }
    return text
  }
}
