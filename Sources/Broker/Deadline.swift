import NIOCore

/// Asking somebody who may never answer, such as a name server or a vault.
enum Deadline {
  struct Passed: Error, CustomStringConvertible {
    let time: Duration

    var description: String { "no answer in \(time)" }
  }

  /// What `body` gives, or an error when the time is over. Then `body` is cancelled and left behind, whatever it does.
  static func first<Value: Sendable>(
    within time: Duration, on loop: any EventLoop, _ body: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let promise = loop.makePromise(of: Value.self)
    // Whoever is first decides.
    let alarm = loop.scheduleTask(in: TimeAmount(time)) { promise.fail(Passed(time: time)) }
    let asking = Task {
      do { promise.succeed(try await body()) } catch { promise.fail(error) }
    }
    defer {
      alarm.cancel()
      asking.cancel()
    }
    return try await promise.futureResult.get()
  }
}
