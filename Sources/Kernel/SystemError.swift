import Glibc

/// A call to the kernel that failed: which step, on what, and with which errno.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The call and what it was applied to, such as `open /proc/self/mountinfo`.
  public let stage: String
  /// The kernel's error number; 0 where the kernel's answer was well-formed but unacceptable.
  public let errno: Int32

  public init(_ stage: String, errno: Int32) {
    self.stage = stage
    self.errno = errno
  }

  public var description: String {
    errno == 0 ? stage : "\(stage): \(String(cString: strerror(errno))) (errno \(errno))"
  }

  /// Passes a result that is not negative; otherwise throws with the errno the call left.
  @discardableResult
  public static func check<Result: SignedInteger>(
    _ result: Result, _ stage: @autoclosure () -> String
  ) throws(SystemError) -> Result {
    let cause = Glibc.errno
    guard result >= 0 else { throw SystemError(stage(), errno: cause) }
    return result
  }
}
