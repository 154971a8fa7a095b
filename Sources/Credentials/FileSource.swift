import Glibc

/// A secret in a file, read anew each time. Newlines at its end are not part of it.
public struct FileSource: CredentialSource {
  public let path: String

  public init(path: String) {
    self.path = path
  }

  public func fetch(for attempt: CredentialAttempt) async throws(CredentialError) -> Secret {
    try read()
  }

  /// - Throws: `CredentialError` for a link, for what is no file, and for a file that others may read or write.
  public func read() throws(CredentialError) -> Secret {
    do {
      return try readAtOnce()
    } catch {
      throw error.named(path)
    }
  }

  private func readAtOnce() throws(CredentialError) -> Secret {
    // Not to wait for a writer where somebody put a pipe.
    let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      let number = errno
      throw number == ELOOP
        ? CredentialError(.refused, "is a symbolic link (fix: name the file itself)")
        : CredentialError(.unavailable, "cannot be opened: \(String(cString: strerror(number)))")
    }
    defer { close(descriptor) }
    var facts = stat()
    guard fstat(descriptor, &facts) == 0 else {
      throw CredentialError(.unavailable, "cannot be looked at: \(String(cString: strerror(errno)))")
    }
    try Self.judge(mode: facts.st_mode, owner: facts.st_uid, own: geteuid())
    var bytes = try Self.contents(of: descriptor)
    defer { bytes.withUnsafeMutableBytes { if let start = $0.baseAddress { explicit_bzero(start, $0.count) } } }
    let end = bytes.lastIndex { $0 != 10 && $0 != 13 }.map { $0 + 1 } ?? 0
    // Times alone do not tell two files apart that were written within one tick of the kernel's clock.
    let changed = "\(facts.st_mtim.tv_sec).\(Self.nineDigits(facts.st_mtim.tv_nsec))"
    return try Secret(bytes[..<end], version: "file \(facts.st_ino) of \(changed)")
  }

  /// Apart from the file, because a test is nobody's other user.
  static func judge(mode: mode_t, owner: uid_t, own: uid_t) throws(CredentialError) {
    guard mode & S_IFMT == S_IFREG else { throw CredentialError(.refused, "is no regular file") }
    guard owner == 0 || owner == own else {
      throw CredentialError(.refused, "belongs to user \(owner) (fix: chown it to root, or to the worker's own user)")
    }
    // The group may read: that is how root gives a file to a service.
    guard mode & 0o037 == 0 else {
      throw CredentialError(
        .refused, "may be read or written by others (fix: chmod 0600, or 0640 with the worker's group)")
    }
  }

  private static func contents(of descriptor: Int32) throws(CredentialError) -> [UInt8] {
    // Once, so that no copy is left behind by an array that grows; newlines may follow the longest secret.
    var bytes = [UInt8](repeating: 0, count: Secret.mostBytes + 3)
    var filled = 0
    while filled < bytes.count {
      let count = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + filled, $0.count - filled) }
      if count < 0 {
        if errno == EINTR { continue }
        throw CredentialError(.unavailable, "cannot be read: \(String(cString: strerror(errno)))")
      }
      if count == 0 { break }
      filled += count
    }
    bytes.removeLast(bytes.count - filled)
    return bytes
  }

  private static func nineDigits(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: 9 - digits.count) + digits
  }
}
