import FoundationEssentials
import Jobs

/// A record as the database has it, shown to a person: any value at any place, because a job wrote some of it and a worker
/// that may have been taken over the rest.
enum RecordViews: Fuzzer {
  private static let record = #"""
    {"job":"j","queue":"q","state":"finished","attempt":2,"outcome":"failed","exit_code":3,"signal":9,
    "reason":"r\u001b[31m","notes":["a","b"],"usage":{"wall_seconds":1.5,"cpu_seconds":0.1,"memory_peak_bytes":4096},
    "stdout":{"bytes":1,"truncated":true},"result":{"a":[1,null,"x\u202ey"]},"published":"/p",
    "attribution":{"enqueued_by":"u","isolation":{"uid":7,"waivers":["x"],"outputs":"disk"},
    "inputs":[{"name":"i","sha256":"s"}]},"artifacts":[{"path":"p","bytes":1,"sha256":"\u001b"}],
    "quarantined":[{"path":"p","reason":"\u009b"}],"attempts":[{"attempt":1,"outcome":"lost","finished_at":"t"},{}]}
    """#

  static var seeds: [[UInt8]] { [Array(record.utf8), Array(#"{"usage":{"wall_seconds":1e400}}"#.utf8)] }

  static var words: [[UInt8]] {
    [
      "job", "state", "outcome", "exit_code", "reason", "notes", "usage", "wall_seconds", "memory_peak_bytes", "stdout",
      "bytes", "truncated", "result", "published", "attribution", "isolation", "waivers", "inputs", "name", "sha256",
      "artifacts", "path", "quarantined", "attempts", "attempt", "finished_at",
    ].map { Array("\"\($0)\":".utf8) } + JSONValues.words
  }

  static func run(_ bytes: [UInt8]) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)) else { return }
    let view = RecordView(value)
    for line in view.summary(terminal: false) + view.full() + [RecordView.compact(value)] {
      TerminalTexts.check(line)
    }
  }
}
