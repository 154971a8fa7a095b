import CLinux
import Glibc

/// How a process ended, from the kernel's wait status.
public enum WaitStatus: Equatable, Sendable {
  case exited(Int32)
  case signaled(Int32)

  /// Nil for a process that is stopped or continued.
  public init?(raw: Int32) {
    switch raw & 0x7f {
    case 0: self = .exited((raw >> 8) & 0xff)
    case 0x7f: return nil
    case let signal: self = .signaled(signal)
    }
  }
}

/// A process held by a pidfd, so that its number cannot come to mean another one.
public struct ProcessHandle: Sendable {
  /// The pid in the caller's namespace.
  public let processID: pid_t
  public let descriptor: Descriptor

  public init(processID: pid_t, descriptor: Descriptor) {
    self.processID = processID
    self.descriptor = descriptor
  }

  /// Sends a signal. A process that has ended already is no error.
  public func signal(_ signal: Int32) throws(SystemError) {
    if cordon_pidfd_send_signal(descriptor.raw, signal) < 0, errno != ESRCH {
      throw SystemError("pidfd_send_signal \(signal)", errno: errno)
    }
  }

  /// Reaps the child if it has ended; nil while it runs.
  public func reap() throws(SystemError) -> WaitStatus? {
    var status: Int32 = 0
    while true {
      let reaped = waitpid(processID, &status, WNOHANG)
      if reaped < 0, errno == EINTR { continue }
      return try SystemError.check(reaped, "waitpid") == 0 ? nil : WaitStatus(raw: status)
    }
  }

  /// How the child has ended, and leaves it to be reaped; nil while it runs.
  public func peek() throws(SystemError) -> WaitStatus? {
    var code: Int32 = 0
    var isSignal: Int32 = 0
    let ended = try SystemError.check(cordon_peek(processID, &code, &isSignal), "waitid")
    return ended == 0 ? nil : isSignal == 0 ? .exited(code) : .signaled(code)
  }
}

/// What names a process for all time since boot: its number, and when it started in clock ticks.
public struct ProcessIdentity: Equatable, Sendable {
  public var processID: Int32
  public var startTicks: UInt64

  public init(processID: Int32, startTicks: UInt64) {
    self.processID = processID
    self.startTicks = startTicks
  }

  /// The process that has this number now; nil when there is none.
  ///
  /// - Parameter proc: the root of a proc filesystem of the caller's pid namespace.
  public static func current(_ processID: Int32, proc: Descriptor) throws(SystemError) -> ProcessIdentity? {
    let stat: String
    do { stat = try proc.readText("\(processID)/stat") } catch {
      if error.errno == ENOENT || error.errno == ESRCH { return nil }
      throw error
    }
    guard let ticks = startTicks(stat: stat) else { throw SystemError("parse /proc/\(processID)/stat", errno: 0) }
    return ProcessIdentity(processID: processID, startTicks: ticks)
  }

  /// Field 2 of /proc/PID/stat, the name: up to 15 bytes, of any kind.
  public static func name(stat: String) -> Substring? {
    let bytes = stat.utf8
    guard let begin = bytes.firstIndex(of: UInt8(ascii: "(")), let end = bytes.lastIndex(of: UInt8(ascii: ")")),
      begin < end
    else { return nil }
    return Substring(bytes[bytes.index(after: begin)..<end])
  }

  /// Field 22 of /proc/PID/stat. The name in field 2 may hold spaces and parentheses, so counting starts behind it.
  public static func startTicks(stat: String) -> UInt64? {
    // By bytes: as characters, what a process ends its name with may combine with the parenthesis behind it.
    let bytes = stat.utf8
    guard let end = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
    let fields = bytes[bytes.index(after: end)...].split(separator: UInt8(ascii: " "))
    return fields.count > 19 ? UInt64(Substring(fields[19])) : nil
  }
}
