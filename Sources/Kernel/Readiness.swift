import CLinux
import Glibc

/// epoll(7): which of many descriptors have something to say. Its cost does not grow with the number that have not.
public final class Readiness {
  /// What to wait for. Hang-ups and errors are always reported.
  public struct Interest: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    private init(_ bits: Int) { rawValue = UInt32(bits) }

    public static let read = Interest(Int(CORDON_READABLE))
    public static let write = Interest(Int(CORDON_WRITABLE))
    /// The other side is gone.
    public static let hangUp = Interest(Int(CORDON_HUNG_UP))
  }

  public struct Event: Sendable {
    /// As it was given to `add`.
    public var token: UInt64
    public var ready: Interest
  }

  private let descriptor: Descriptor
  private var buffer = [cordon_ready](repeating: cordon_ready(), count: 64)

  public init() throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(cordon_readiness(), "epoll_create1"))
  }

  public func add(_ watched: Descriptor, _ interest: Interest, token: UInt64) throws(SystemError) {
    try SystemError.check(
      cordon_readiness_add(descriptor.raw, watched.raw, interest.rawValue, token), "watch a descriptor")
  }

  public func change(_ watched: Descriptor, _ interest: Interest, token: UInt64) throws(SystemError) {
    try SystemError.check(
      cordon_readiness_change(descriptor.raw, watched.raw, interest.rawValue, token), "change a watch")
  }

  /// Before the descriptor is closed: a copy in a child that has not closed it yet would go on being reported.
  public func remove(_ watched: Descriptor) {
    _ = cordon_readiness_remove(descriptor.raw, watched.raw)
  }

  /// Waits for at most `timeout` milliseconds, -1 without end. Empty when a signal came.
  public func wait(timeout: Int32) throws(SystemError) -> [Event] {
    let count = cordon_readiness_wait(descriptor.raw, &buffer, Int32(buffer.count), timeout)
    try SystemError.check(count, "epoll_wait")
    return buffer[..<Int(count)].map { Event(token: $0.token, ready: Interest(rawValue: $0.events)) }
  }
}
