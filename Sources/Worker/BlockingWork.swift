import Dispatch

/// Runs file work on a thread that may wait for a disk. On the concurrency pool, which has one thread a processor, a
/// few slow copies would hold up the heartbeat and the fence of every other attempt.
func onBlockingThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async { continuation.resume(with: Result(catching: work)) }
  }
}
