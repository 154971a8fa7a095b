import CLinux
import Crypto
import Glibc
import Jobs
import Kernel

/// A file name as the kernel has it: bytes without NUL and `/`.
typealias FileName = [UInt8]

// Everything here names one component beneath a directory descriptor that is held, never a path from the root: what
// the name means cannot change between two calls because a parent was renamed or replaced.

extension Descriptor {
  /// A directory the operator named; links in its path are the operator's own.
  static func directory(_ path: String) throws(SystemError) -> Descriptor {
    try open(path, O_RDONLY | O_DIRECTORY)
  }

  /// The directory of that name beneath this one, itself no link.
  func directory(_ name: FileName) throws(SystemError) -> Descriptor {
    try open(beneath: name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  }

  /// Makes the directory, whatever the umask says; EEXIST when there is something of that name.
  func makeDirectory(_ name: FileName, mode: mode_t) throws(SystemError) -> Descriptor {
    try SystemError.check(withCString(name) { mkdirat(raw, $0, 0o700) }, "mkdirat")
    let made = try directory(name)
    try made.setMode(mode)
    return made
  }

  /// What the name stands for, without following or opening it.
  func status(of name: FileName) throws(SystemError) -> stat {
    var status = stat()
    try SystemError.check(withCString(name) { fstatat(raw, $0, &status, AT_SYMLINK_NOFOLLOW) }, "fstatat")
    return status
  }

  func status() throws(SystemError) -> stat {
    var status = stat()
    try SystemError.check(fstat(raw, &status), "fstat")
    return status
  }

  func setMode(_ mode: mode_t) throws(SystemError) {
    try SystemError.check(fchmod(raw, mode), "fchmod")
  }

  func sync() throws(SystemError) {
    try SystemError.check(fsync(raw), "fsync")
  }

  /// Makes everything on the filesystem that holds this file durable, and tells of whatever could not be written
  /// since the file was opened.
  func syncFilesystem() throws(SystemError) {
    try SystemError.check(cordon_sync_filesystem(raw), "syncfs")
  }

  /// Renames within one filesystem. A directory is never put over one that has entries.
  func rename(_ name: FileName, to newName: FileName, beneath target: Descriptor) throws(SystemError) {
    let result = withCString(name) { old in withCString(newName) { renameat(raw, old, target.raw, $0) } }
    try SystemError.check(result, "renameat")
  }

  /// Names in this directory without `.` and `..`, sorted by their bytes; at most `maximum` and one more, so that
  /// the caller sees that there are more.
  func names(maximum: Int) throws(SystemError) -> [FileName] {
    let own = try SystemError.check(openat(raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open directory")
    guard let stream = fdopendir(own) else {
      let cause = errno
      close(own)
      throw SystemError("fdopendir", errno: cause)
    }
    defer { closedir(stream) }
    var names: [FileName] = []
    while names.count <= maximum {
      errno = 0
      guard let entry = readdir(stream) else {
        if errno != 0 { throw SystemError("readdir", errno: errno) }
        break
      }
      let text = UnsafeRawPointer(entry) + MemoryLayout<dirent>.offset(of: \.d_name)!
      let name = FileName(
        UnsafeRawBufferPointer(start: text, count: strlen(text.assumingMemoryBound(to: CChar.self))))
      if name != Array(".".utf8), name != Array("..".utf8) { names.append(name) }
    }
    return names.sorted(by: precedes)
  }

  /// Removes the entry and everything beneath it, following no link. Entries that vanish meanwhile are fine.
  func removeTree(_ name: FileName) throws(SystemError) {
    if withCString(name, { unlinkat(raw, $0, 0) }) == 0 || errno == ENOENT { return }
    // Linux says EISDIR for a directory, POSIX EPERM.
    guard errno == EISDIR || errno == EPERM else { throw SystemError("unlinkat", errno: errno) }
    let inner = try directory(name)
    while true {
      let names = try inner.names(maximum: removalBatch)
      for name in names { try inner.removeTree(name) }
      if names.count <= removalBatch { break }
    }
    try removeEmptyDirectory(name)
  }

  /// ENOTEMPTY when it has entries; one that vanished is fine.
  func removeEmptyDirectory(_ name: FileName) throws(SystemError) {
    guard withCString(name, { unlinkat(raw, $0, AT_REMOVEDIR) }) == 0 || errno == ENOENT else {
      throw SystemError("rmdir", errno: errno)
    }
  }

  /// Copies from the present offset to the end and digests what was copied, so that digest and copy cannot disagree.
  /// Nil when there are more than `maximum` bytes, or when `goesOn`, which is asked before each chunk, or `accepts`, which is
  /// given each, says no; what was written by then is the caller's to remove.
  func copy(
    to target: Descriptor, maximum: Int64, while goesOn: () -> Bool = { true },
    accepting accepts: (ArraySlice<UInt8>) -> Bool = { _ in true }
  ) throws(SystemError) -> (bytes: Int64, digest: Jobs.Digest)? {
    var hash = SHA256()
    var total: Int64 = 0
    var buffer = [UInt8](repeating: 0, count: copyBytes)
    while goesOn() {
      let count = read(raw, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      try SystemError.check(count, "read")
      if count == 0 { return (total, Jobs.Digest(sha256: hash.finalize())) }
      total += Int64(count)
      guard total <= maximum, accepts(buffer[..<count]) else { return nil }
      hash.update(data: buffer[..<count])
      try target.writeAll(buffer[..<count])
    }
    return nil
  }
}

/// Makes the directory and its missing parents, which get the same mode unless another is named; one that exists
/// keeps its mode.
func makeDirectories(_ path: String, mode: mode_t, parents: mode_t? = nil) throws(SystemError) {
  if mkdir(path, mode) == 0 || errno == EEXIST { return }
  let parent = path.split(separator: "/").dropLast()
  guard errno == ENOENT, !parent.isEmpty else { throw SystemError("mkdir \(path)", errno: errno) }
  try makeDirectories("/" + parent.joined(separator: "/"), mode: parents ?? mode)
  guard mkdir(path, mode) == 0 || errno == EEXIST else { throw SystemError("mkdir \(path)", errno: errno) }
}

/// The digest of bytes in memory.
public func sha256(_ bytes: [UInt8]) -> Jobs.Digest { Jobs.Digest(sha256: SHA256.hash(data: bytes)) }

/// A name nobody can guess or already uses: 128 random bits in hexadecimal digits.
func randomName() -> FileName {
  var generator = SystemRandomNumberGenerator()
  return Array((0..<16).map { _ in EscapedName.hexadecimal(generator.next()) }.joined().lowercased().utf8)
}

extension stat {
  var isPlainFile: Bool { st_mode & S_IFMT == S_IFREG }
  var isDirectory: Bool { st_mode & S_IFMT == S_IFDIR }

  /// The same inode, of the same kind.
  func isSame(as other: stat) -> Bool {
    st_dev == other.st_dev && st_ino == other.st_ino && st_mode & S_IFMT == other.st_mode & S_IFMT
  }
}

/// Turns the kernel's refusal within `body` into a `SandboxError` of that stage; one that is already typed passes.
func failing<Value>(
  _ stage: String, _ message: @autoclosure () -> String, fix: String? = nil, _ body: () throws -> Value
) throws(SandboxError) -> Value {
  do {
    return try body()
  } catch let error as SandboxError {
    throw error
  } catch let error as SystemError {
    throw SandboxError(stage: stage, message: "\(message()) (\(error.stage))", errno: error.errno, fix: fix)
  } catch {
    throw SandboxError(stage: stage, message: "\(message()): \(error)", fix: fix)
  }
}

/// By their bytes. memcmp(3), because tens of thousands of names may begin alike.
private func precedes(_ left: FileName, _ right: FileName) -> Bool {
  let order = memcmp(left, right, min(left.count, right.count))
  return order != 0 ? order < 0 : left.count < right.count
}

private func withCString<Value>(_ name: FileName, _ body: (UnsafePointer<CChar>) -> Value) -> Value {
  (name + [0]).withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
}

private let copyBytes = 256 << 10
private let removalBatch = 4_096
