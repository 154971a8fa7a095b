import Glibc

/// Why a cell could not be made, run or collected.
public struct SandboxError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Where it happened: `spawn` (the warden did not start), `host` (the host cannot confine), `warden` (it is
  /// gone), `request` (no cell may be asked for like this), `exec` (the job's program), `cell` (a cell could not
  /// be made or emptied), `stage`, `collect`, `publish`, `selftest`.
  public var stage: String
  /// What was being done, and on what.
  public var message: String
  /// The kernel's answer; nil where the kernel was not asked.
  public var errno: Int32?
  /// What an operator can do about it; nil where nothing general can be said.
  public var fix: String?

  public init(stage: String, message: String, errno: Int32? = nil, fix: String? = nil) {
    self.stage = stage
    self.message = message
    self.errno = errno
    self.fix = fix
  }

  /// One line: `stage: message: Permission denied (13); fix`.
  public var description: String {
    "\(stage): \(cause)" + (fix.map { "; \($0)" } ?? "")
  }

  /// The message and the kernel's answer.
  var cause: String {
    guard let errno else { return message }
    return "\(message): \(String(cString: strerror(errno))) (\(errno))"
  }

  /// What was asked for is at fault, not this host: another worker would fail alike.
  public var isJobsFault: Bool {
    switch stage {
    case "request": true
    case "exec":
      [ENOENT, EACCES, ENOEXEC, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, E2BIG, EINVAL, EPERM].contains(errno)
    default: false
    }
  }

  /// The disk, the quota or the inode table of the directory written to is full.
  public var isOutOfSpace: Bool { errno == ENOSPC || errno == EDQUOT }
}
