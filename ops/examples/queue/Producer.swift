import Foundation
import Postgres
import Store

/// A producer in Swift: puts one job in, waits for its end and prints the record. Needs CORDON_DATABASE_URL.
@main
struct Producer {
  static func main() async throws {
    let pool = Pool(ConnectionSettings(ProcessInfo.processInfo.environment["CORDON_DATABASE_URL"] ?? ""), maximum: 1)
    let store = Store(pool: pool)
    let enqueued = try await store.enqueue(
      queue: "default", specification: #"{"runtime": "bash", "code": "echo '{\"answer\": 42}' > $CORDON_RESULT"}"#,
      priority: 3)
    while true {
      let record = try await store.record(enqueued.job)
      if record.contains(#""state": "finished""#) {
        print(record)
        break
      }
      try await Task.sleep(for: .milliseconds(100))
    }
    await pool.close()
  }
}
