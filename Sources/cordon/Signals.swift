import Dispatch
import Foundation

/// SIGINT and SIGTERM as a stream. Created before anything that must be cleaned up, it replaces the default
/// action, so whoever creates it has to act on the first signal and on the second.
///
/// service-lifecycle's group was tried: it has one graceful stage a signal, and a second SIGTERM cannot mean more
/// than the first, which is what a drain needs.
struct Signals {
  let received: AsyncStream<Int32>
  private let sources: [any DispatchSourceSignal]

  init(_ signals: [Int32] = [SIGINT, SIGTERM]) {
    let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
    received = stream
    sources = signals.map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { continuation.yield(number) }
      source.resume()
      return source
    }
  }

  /// Stops listening; the signals stay ignored until the process ends.
  func cancel() {
    for source in sources { source.cancel() }
  }
}
