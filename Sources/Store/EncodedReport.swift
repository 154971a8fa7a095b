import FoundationEssentials
import Jobs

/// A report as `cordon.complete` takes it: the facts as one JSON text and the job's own result as another, because
/// only the second may be something the database cannot hold.
struct EncodedReport {
  let report: String
  let result: String?

  init(_ report: AttemptReport) {
    var text = JSONText()
    text.object { text in
      text.member("outcome", report.outcome)
      text.member("exit_code", report.exitCode)
      text.member("signal", report.signal)
      text.member("reason", report.reason)
      text.member("notes", report.notes)
      text.member("stdout", report.stdout, Self.stream)
      text.member("stderr", report.stderr, Self.stream)
      text.member("usage", report.usage) { text, usage in
        text.member("wall_seconds", usage.wallSeconds)
        text.member("cpu_seconds", usage.cpuSeconds)
        text.member("memory_peak_bytes", usage.memoryPeakBytes)
        text.member("output_bytes", usage.outputBytes)
      }
      text.member("artifacts", report.artifacts) { text, artifact in
        text.object { text in
          text.member("path", artifact.path)
          text.member("bytes", artifact.bytes)
          text.member("sha256", artifact.sha256.description)
        }
      }
      text.member("quarantined", report.quarantined) { text, entry in
        text.object { text in
          text.member("path", entry.path)
          text.member("reason", entry.reason)
        }
      }
      text.member("published", report.published)
      text.attribution(code: report.code, inputs: report.inputs, isolation: report.isolation)
    }
    self.report = text.text
    // An empty text is no JSON, so what cannot be encoded is recorded as an invalid result.
    result = report.result.map { value in
      (try? JSONEncoder().encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
  }

  private static func stream(_ text: inout JSONText, _ facts: StreamFacts) {
    text.member("bytes", facts.bytes)
    text.member("truncated", facts.truncated)
  }
}

/// An attribution as `cordon.start` takes it.
struct EncodedAttribution {
  let text: String

  init(_ attribution: StartAttribution) {
    var text = JSONText()
    text.object { text in
      text.attribution(code: attribution.code, inputs: attribution.inputs, isolation: attribution.isolation)
    }
    self.text = text.text
  }
}

extension JSONText {
  /// What ran, on what, and how it was confined.
  fileprivate mutating func attribution(code: Digest?, inputs: [InputFacts], isolation: Isolation?) {
    member("code", code?.description)
    member("inputs", inputs) { text, input in
      text.object { text in
        text.member("name", input.name)
        text.member("sha256", input.sha256.description)
        text.member("bytes", input.bytes)
      }
    }
    member("isolation", isolation) { text, isolation in
      text.member("cgroup", isolation.cgroup)
      text.member("namespaces", isolation.namespaces)
      text.member("filter", isolation.filter.description)
      text.member("uid", isolation.uid)
      text.member("waivers", isolation.waivers)
      text.member("outputs", isolation.outputs.rawValue)
      text.member("egress", isolation.egress) { text, egress in
        text.member("grants", egress.grants)
        text.member("lines", egress.lines)
        text.member("head", egress.head?.description)
        text.member("unrecorded", egress.unrecorded)
      }
    }
  }
}
