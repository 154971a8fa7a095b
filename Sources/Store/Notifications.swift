import Postgres

extension Store {
  /// What PostgreSQL notifies on channels: `cordon_ready` (payload: the queue) and `cordon_cancel` (payload: the job).
  ///
  /// Hints only: anybody may send them, and they can be lost. The stream holds a connection of its own and opens a new
  /// one when that is lost; every channel then yields one empty payload, which says "look yourself, you may have
  /// missed something". It ends when its consumer's task is cancelled or drops it.
  public func notifications(_ channels: [String]) -> AsyncStream<(channel: String, payload: String)> {
    let settings = pool.settings
    let (stream, continuation) = AsyncStream.makeStream(
      of: (channel: String, payload: String).self, bufferingPolicy: .bufferingNewest(Connection.notificationBacklog))
    let listener = Task {
      var backoff = Backoff()
      var reconnected = false
      while !Task.isCancelled {
        if let connection = try? await Connection.connect(settings) {
          do {
            for channel in channels { try await connection.listen(channel) }
            backoff.reset()
            if reconnected { for channel in channels { continuation.yield((channel, "")) } }
            for await notification in connection.notifications {
              continuation.yield((notification.channel, notification.payload))
            }
          } catch {
            // The connection was lost before it listened; the next one is tried after the wait below.
          }
          await connection.close()
          reconnected = true
        }
        try? await Task.sleep(for: backoff.next())
      }
      continuation.finish()
    }
    continuation.onTermination = { _ in listener.cancel() }
    return stream
  }
}
