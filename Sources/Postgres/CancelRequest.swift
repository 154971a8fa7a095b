import CPostgres
import Glibc

/// A cancel request under way. libpq sends it over a connection of its own and blocks meanwhile, possibly for
/// minutes when the server's host is gone, so a detached thread does it. The thread closes its end of a socket
/// pair when it is done, whatever the outcome; that is what the connection's thread waits for.
final class CancelRequest {
  /// Readable (end of file) once the request was delivered or failed.
  private let done: Int32

  private final class Work {
    let cancel: OpaquePointer
    let signal: Int32

    init(cancel: OpaquePointer, signal: Int32) {
      self.cancel = cancel
      self.signal = signal
    }
  }

  /// Nil when the request cannot even be started.
  init?(_ handle: OpaquePointer) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard let cancel = PQgetCancel(handle) else { return nil }
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      PQfreeCancel(cancel)
      return nil
    }
    let work = Unmanaged.passRetained(Work(cancel: cancel, signal: ends[1]))
    var thread = pthread_t()
    let status = pthread_create(
      &thread, nil,
      { context in
        let work = Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
        var message = [CChar](repeating: 0, count: 256)
        PQcancel(work.cancel, &message, Int32(message.count))
        PQfreeCancel(work.cancel)
        close(work.signal)
        return nil
      }, work.toOpaque())
    guard status == 0 else {
      work.release()
      PQfreeCancel(cancel)
      close(ends[0])
      close(ends[1])
      return nil
    }
    pthread_detach(thread)
    done = ends[0]
  }

  deinit { close(done) }

  /// False when the request is still under way at `deadline`.
  func awaitDelivery(until deadline: ContinuousClock.Instant) -> Bool {
    while true {
      var polled = pollfd(fd: done, events: Int16(POLLIN), revents: 0)
      if poll(&polled, 1, max(.zero, deadline - .now).pollTimeout) > 0 { return true }
      if deadline <= .now { return false }
    }
  }
}
