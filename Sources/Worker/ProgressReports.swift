import Jobs
import Logging
import Sandbox
import Store

// What jobs say of their progress: looked at in the cells once in `ProgressReport.interval`, and written where it has changed, one
// statement for all. A worker without such jobs asks the database nothing.

extension Worker {
  func reportProgress() async {
    var said: [Int64: JSONValue] = [:]
    while !Task.isCancelled {
      try? await Task.sleep(for: ProgressReport.interval)
      var changed: [(claim: Claim, report: JSONValue)] = []
      for (token, cell) in cells {
        guard let entry = roster.entries[token], var report = await cell.progress() else { continue }
        if let credentials = egress[token]?.credentials { report = credentials.redact(report) }
        guard report != said[token] else { continue }
        changed.append((entry.claim, report))
      }
      said = said.filter { cells[$0.key] != nil }
      guard !changed.isEmpty, !Task.isCancelled else { continue }
      do {
        try await store.reportProgress(worker: id, changed)
        for (claim, report) in changed { said[claim.token] = report }
      } catch {
        logger.debug("progress could not be reported", metadata: ["error": "\(error)"])
      }
    }
  }
}
