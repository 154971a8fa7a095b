import CLinux
import Foundation

/// A network namespace without a name: it lasts as long as a descriptor of this process or a process within it, so that
/// there is nothing to remove, however a run ends, and two runs cannot meet. The interfaces in it go with it.
final class NetworkNamespace: Sendable {
  private let descriptor: Int32

  init() throws {
    descriptor = try Self.inThread {
      guard cordon_unshare(Int32(CORDON_NEWNET)) == 0 else { throw Self.failure("unshare") }
      let descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else { throw Self.failure("open /proc/thread-self/ns/net") }
      return descriptor
    }
  }

  deinit { close(descriptor) }

  /// How another process of root's names it.
  var path: String { "/proc/\(getpid())/fd/\(descriptor)" }

  /// What `body` makes belongs to the namespace: a socket stays there and a process is born there, wherever they are
  /// used from. The namespace is the one thing that changes for a process: its mounts are those of everybody.
  func within<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    try Self.inThread { [descriptor] in
      guard cordon_setns(descriptor, Int32(CORDON_NEWNET)) == 0 else { throw Self.failure("setns") }
      return try body()
    }
  }

  /// A thread cannot go back to a namespace without trusting what it did meanwhile, so each is used once.
  private static func inThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    let outcome = Outcome<Value>()
    Thread.detachNewThread {
      outcome.result = Result(catching: body)
      outcome.isThere.signal()
    }
    outcome.isThere.wait()
    return try outcome.result!.get()
  }

  /// Written before the semaphore is raised, read after it was.
  private final class Outcome<Value: Sendable>: @unchecked Sendable {
    let isThere = DispatchSemaphore(value: 0)
    var result: Result<Value, any Error>?
  }

  private static func failure(_ call: String) -> FaultError {
    FaultError("no network namespace: \(call): \(String(cString: strerror(errno)))")
  }
}
