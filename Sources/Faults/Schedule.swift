import Postgres

extension Fleet {
  /// Between two instants of the schedule, in microseconds.
  static let schedulePeriod: Int64 = 2_000_000

  /// Sets a schedule that fires every two seconds and catches up with whatever was missed.
  func setSchedule() async throws {
    let document = """
      {"cron": "*/2 * * * * *", "zone": "UTC", "overlap": "queue", "missed": {"catch_up": 1000},
       "specification": {"runtime": "bash", "code": "true"}}
      """
    try await producers.query(
      Statement(name: "set_schedule", sql: "SELECT revision FROM cordon.set_schedule('beat', $1::jsonb)"),
      [Parameter(document)])
  }

  /// Nothing is fired any more; what is settled by now is judged.
  func pauseSchedule() async throws {
    // A producer's statement has two seconds, which a fleet that is only just well again may not have.
    for attempt in 1... {
      do {
        try await producers.query(
          Statement(name: "pause_schedule", sql: "SELECT cordon.pause_schedule('beat') IS NULL"))
        return
      } catch {
        guard attempt < 10 else { throw error }
        try await Task.sleep(for: .milliseconds(500))
      }
    }
  }
}
