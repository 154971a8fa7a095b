import CLinux
import Glibc

/// A file descriptor with one owner: closed when the last reference goes. Always close-on-exec.
public final class Descriptor: Sendable {
  public let raw: Int32

  /// Takes ownership of an open descriptor.
  public init(owning raw: Int32) { self.raw = raw }

  deinit { close(raw) }

  /// open(2) of an absolute path, or of one relative to `directory`, following symbolic links. For names that the
  /// operator or the kernel chose, never for names a job could have made.
  public static func open(
    _ path: String, _ flags: Int32 = O_RDONLY, mode: mode_t = 0, at directory: Descriptor? = nil
  ) throws(SystemError) -> Descriptor {
    Descriptor(
      owning: try SystemError.check(
        openat(directory?.raw ?? AT_FDCWD, path, flags | O_CLOEXEC, mode), "open \(path)"))
  }

  /// A pipe: reading end, writing end.
  public static func pipe() throws(SystemError) -> (read: Descriptor, write: Descriptor) {
    var raw: [Int32] = [-1, -1]
    try SystemError.check(cordon_pipe(&raw), "pipe")
    return (Descriptor(owning: raw[0]), Descriptor(owning: raw[1]))
  }

  /// An independent descriptor for the same open file.
  public func duplicate() throws(SystemError) -> Descriptor {
    Descriptor(owning: try SystemError.check(fcntl(raw, F_DUPFD_CLOEXEC, 3), "duplicate descriptor"))
  }

  /// Makes `number` name the same open file, instead of whatever it named. Close-on-exec or not.
  public func copy(to number: Int32, keptOnExecute: Bool) throws(SystemError) {
    try SystemError.check(cordon_copy_descriptor(raw, number, keptOnExecute ? 0 : 1), "dup3 \(number)")
  }

  public func setNonBlocking() throws(SystemError) {
    let flags = try SystemError.check(fcntl(raw, F_GETFL), "read descriptor flags")
    try SystemError.check(fcntl(raw, F_SETFL, flags | O_NONBLOCK), "set descriptor flags")
  }

  /// Reads from the present offset to the end.
  ///
  /// - Throws: EFBIG when there are more than `limit` bytes; nothing of the file is then kept.
  public func readAll(limit: Int) throws(SystemError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = read(raw, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      try SystemError.check(count, "read")
      if count == 0 { return bytes }
      guard bytes.count + count <= limit else { throw SystemError("read beyond \(limit) bytes", errno: EFBIG) }
      bytes += chunk[..<count]
    }
  }

  /// Writes every byte.
  public func writeAll(_ bytes: some Collection<UInt8>) throws(SystemError) {
    let all = Array(bytes)
    var offset = 0
    while offset < all.count {
      let count = all.withUnsafeBytes { write(raw, $0.baseAddress! + offset, all.count - offset) }
      if count < 0, errno == EINTR { continue }
      offset += try SystemError.check(count, "write")
    }
  }
}
