import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// The main process of a job between its fork from init and its execve. It gives up in this order: terminal session,
// resources, keyring, bounding capabilities (which needs privilege), groups and uid, all other capabilities, the
// right to gain any (no_new_privs), inherited signal state; then it waits at the gate until init is harmless too,
// loads the filter and executes. Every descriptor but 0, 1 and 2 closes with the execve. Whatever fails on the way
// is reported through a pipe that the execve closes, so an empty pipe means that the job runs.

/// The main process of one job.
struct JobProcess {
  var order: CellOrder
  var user: UInt32
  var group: UInt32
  var keepGroups: Bool
  var filter: SeccompFilter
  var largestFile: UInt64

  /// Starts the process. It waits until a byte is written to `gate`; `failure` ends empty when it has executed.
  func fork(standard: [Descriptor]) throws -> (main: ProcessHandle, gate: Descriptor, failure: Descriptor) {
    let gate = try JobProcess.pipe()
    let failure = try JobProcess.pipe()
    let main = try requiring("fork") { () throws(SystemError) in
      try ProcessHandle.clone {
        let refusal = execute(standard: standard, gate: gate.read)
        try? failure.write.writeAll(WardenReply.cannot(refusal).encoded)
        _exit(127)
      }
    }
    return (main, gate.write, failure.read)
  }

  /// Waits until the process has executed, which is nil, or failed to. The writing end must be closed in the caller.
  static func outcome(of failure: Descriptor) throws -> Refusal? {
    let bytes = try failure.readAll(limit: Bounds.message)
    if bytes.isEmpty { return nil }
    guard case .cannot(let refusal) = try WardenReply(decoding: bytes) else { return nil }
    return refusal
  }

  private static func pipe() throws -> (read: Descriptor, write: Descriptor) {
    var raw: [Int32] = [-1, -1]
    try requiring("fork") { () throws(SystemError) in try SystemError.check(cordon_pipe(&raw), "pipe") }
    return (Descriptor(owning: raw[0]), Descriptor(owning: raw[1]))
  }

  /// Returns only when something failed.
  private func execute(standard: [Descriptor], gate: Descriptor) -> Refusal {
    do {
      try requiring("job") { () throws(SystemError) in try confine(standard: standard, gate: gate) }
    } catch {
      return error
    }
    // The warden refused an order without a program.
    let arguments = JobProcess.strings(order.arguments)
    let environment = JobProcess.strings(order.environment.map { "\($0.name)=\($0.value)" })
    do { try requiring("seccomp") { () throws(SystemError) in try filter.load() } } catch { return error }
    execve(arguments[0]!, arguments, environment)
    return Refusal(control: "exec", stage: "execve \(order.arguments[0].prefix(1_024))", errno: errno)
  }

  private func confine(standard: [Descriptor], gate: Descriptor) throws(SystemError) {
    try SystemError.check(setsid(), "setsid")
    for (number, descriptor) in standard.enumerated() {
      try SystemError.check(dup2(descriptor.raw, Int32(number)), "dup2 \(number)")
    }
    try ResourceLimits.apply(largestFile: largestFile)
    umask(0o022)
    try SystemError.check(chdir(Template.Path.job), "chdir \(Template.Path.job)")
    // Hosts may refuse keyrings altogether, and the filter refuses every later use of them.
    _ = cordon_new_session_keyring()
    try Capabilities.dropBounding()
    try SystemError.check(cordon_become(user, group, keepGroups ? 1 : 0), "become uid \(user)")
    try Capabilities.dropAll()
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    try SystemError.check(cordon_cloexec_range(3, UInt32.max), "close_range")
    cordon_reset_signals()
    var byte: UInt8 = 0
    guard read(gate.raw, &byte, 1) == 1 else { throw SystemError("wait for init", errno: EPIPE) }
  }

  private static func strings(_ texts: [String]) -> [UnsafeMutablePointer<CChar>?] {
    texts.map { strdup($0) } + [nil]
  }
}
