import Jobs
import Sandbox
import Store

/// Writes what a running cell prints to the database, in order, under the attempt's lease.
///
/// One task takes chunks off the cell; from the first one on another writes what has gathered, every `interval`, so that a
/// follower sees a line soon after it was printed and a busy printer costs one statement an interval. Most jobs print
/// nothing before they end, and cost no task and no timer.
actor LogForwarder {
  /// Delay between a byte read from the cell and the statement that stores it; a person sees no less than this.
  static let interval = Duration.milliseconds(50)

  private let store: Store
  private let worker: Int64
  private let claim: Claim
  private var buffer = LogBuffer()
  private var sequence: Int64 = 1
  private var leaseGone = false
  private var flushing = false
  /// What must not be stored; nil where the attempt has no credentials.
  private let credentials: AttemptCredentials?
  private var redacted = RedactedOutput()

  init(store: Store, worker: Int64, claim: Claim, credentials: AttemptCredentials? = nil) {
    self.credentials = credentials
    self.store = store
    self.worker = worker
    self.claim = claim
  }

  /// Returns when the cell's output has ended and every kept byte is stored, or the lease is gone.
  /// Errors of the database are left to the next interval: bytes stay buffered until they are stored.
  func forward(_ output: AsyncStream<OutputChunk>) async {
    var flushing: Task<Void, Never>?
    for await chunk in output {
      accept(chunk)
      if flushing == nil {
        flushing = Task {
          while !Task.isCancelled {
            // Cancelling shortens the pause; the statement itself is shielded, since whether a cancelled one
            // was committed nobody would know.
            try? await Task.sleep(for: Self.interval)
            await Task { await self.flush() }.value
          }
        }
      }
    }
    flushing?.cancel()
    await flushing?.value
    for chunk in redacted.finish() where !leaseGone { buffer.append(chunk) }
    await flush()
  }

  /// Bytes the database would not take when the attempt ended.
  var isComplete: Bool { buffer.isEmpty }

  /// Writes what waits; stops at the first error. The same piece keeps its sequence number until it is stored, so a
  /// lost acknowledgement does not double it.
  func flush() async {
    // Only one writes at a time: this actor can be entered again while a statement is under way.
    guard !flushing else { return }
    flushing = true
    defer { flushing = false }
    while !leaseGone, let chunk = buffer.take() {
      do {
        let stored = try await store.appendLog(
          worker: worker, claim: claim, stream: chunk.stream, sequence: sequence, bytes: chunk.bytes)
        leaseGone = !stored
      } catch {
        return
      }
      sequence += 1
      buffer.stored()
    }
  }

  private func accept(_ chunk: OutputChunk) {
    guard !leaseGone else { return }
    guard let credentials else { return buffer.append(chunk) }
    for piece in redacted.push(chunk, credentials.search) { buffer.append(piece) }
  }
}
