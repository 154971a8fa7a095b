import CLinux
import Glibc

// Names that a job may have made are opened by openat2(2) only: the kernel then refuses, in one step and without a
// race, every path that would leave the directory.

/// What openat2(2) must not do while it walks a path.
public struct Resolution: OptionSet, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Refuse to leave the directory by `..`, an absolute path or a link (EXDEV).
  public static let beneath = Resolution(rawValue: UInt64(CORDON_RESOLVE_BENEATH))
  /// Refuse every symbolic link (ELOOP).
  public static let noSymbolicLinks = Resolution(rawValue: UInt64(CORDON_RESOLVE_NO_SYMLINKS))
  /// Refuse the links of /proc that jump to arbitrary objects (ELOOP).
  public static let noMagicLinks = Resolution(rawValue: UInt64(CORDON_RESOLVE_NO_MAGICLINKS))
  /// Refuse to cross into another mount (EXDEV).
  public static let noCrossing = Resolution(rawValue: UInt64(CORDON_RESOLVE_NO_XDEV))

  /// All of them: the path must name something inside this directory and this mount, without any link.
  public static let strict: Resolution = [.beneath, .noSymbolicLinks, .noMagicLinks, .noCrossing]
}

extension Descriptor {
  /// openat2(2) of `path` beneath this directory.
  ///
  /// The path is given as bytes, because a job may name a file with bytes that are no UTF-8.
  public func open(
    beneath path: [UInt8], _ flags: Int32, mode: mode_t = 0, resolution: Resolution = .strict
  ) throws(SystemError) -> Descriptor {
    guard !path.contains(0) else { throw SystemError("open a path with NUL", errno: EINVAL) }
    let opened = (path + [0]).withUnsafeBytes { buffer in
      cordon_openat2(
        raw, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), UInt64(UInt32(bitPattern: flags | O_CLOEXEC)),
        UInt64(mode), resolution.rawValue)
    }
    return Descriptor(owning: try SystemError.check(opened, "openat2 \(String(decoding: path, as: UTF8.self))"))
  }

  public func open(
    beneath path: String, _ flags: Int32, mode: mode_t = 0, resolution: Resolution = .strict
  ) throws(SystemError) -> Descriptor {
    try open(beneath: Array(path.utf8), flags, mode: mode, resolution: resolution)
  }

  /// The whole text of a small kernel file beneath this directory.
  public func readText(_ path: String, limit: Int = 1 << 20) throws(SystemError) -> String {
    let bytes: [UInt8]
    do {
      bytes = try Descriptor.open(path, O_RDONLY, at: self).readAll(limit: limit)
    } catch {
      throw SystemError("read \(path)", errno: error.errno)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// As `writeText`, where the file is there; false where it is not.
  @discardableResult
  public func writeText(_ text: String, toOptional path: String) throws(SystemError) -> Bool {
    do throws(SystemError) {
      try writeText(text, to: path)
      return true
    } catch {
      guard error.errno == ENOENT else { throw error }
      return false
    }
  }

  /// Writes a kernel file beneath this directory in one write(2), as the kernel's parsers expect.
  public func writeText(_ text: String, to path: String) throws(SystemError) {
    let file: Descriptor
    do { file = try Descriptor.open(path, O_WRONLY, at: self) } catch {
      throw SystemError("write \"\(text)\" to \(path)", errno: error.errno)
    }
    let count = text.utf8.count
    let written = write(file.raw, text, count)
    try SystemError.check(written, "write \"\(text)\" to \(path)")
    guard written == count else { throw SystemError("write \"\(text)\" to \(path)", errno: EIO) }
  }

  /// Names in this directory, without `.` and `..`, in no particular order.
  public func entries() throws(SystemError) -> [String] {
    let copy = try Descriptor.open(".", O_RDONLY | O_DIRECTORY, at: self)
    let duplicate = try SystemError.check(fcntl(copy.raw, F_DUPFD_CLOEXEC, 3), "duplicate descriptor")
    guard let stream = fdopendir(duplicate) else {
      let cause = Glibc.errno
      close(duplicate)
      throw SystemError("list directory", errno: cause)
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { buffer in
        String(decoding: buffer.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}
