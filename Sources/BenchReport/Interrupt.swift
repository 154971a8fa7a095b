import Dispatch
import Foundation
import Synchronization

/// SIGINT and SIGTERM end the measurement between two samples, so that cells, containers and files are taken down by
/// the code that made them. A second signal ends the process at once; its wardens then kill their cells themselves.
public enum Interrupt {
  private static let received = Atomic<Bool>(false)
  nonisolated(unsafe) private static var sources: [any DispatchSourceSignal] = []

  public static var isRequested: Bool { received.load(ordering: .relaxed) }

  /// Called once, before anything is started.
  public static func listen() {
    for number in [SIGINT, SIGTERM] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        if received.exchange(true, ordering: .relaxed) { _exit(130) }
        Progress.line("stopping …")
      }
      source.resume()
      sources.append(source)
    }
  }

  public static func check() throws {
    if isRequested { throw CancellationError() }
  }
}

/// What is going on, for whoever waits; never on stdout, which is the result's.
public enum Progress {
  public static func line(_ text: String) {
    FileHandle.standardError.write(Data("bench: \(text)\n".utf8))
  }
}
