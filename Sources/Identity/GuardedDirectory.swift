import FoundationEssentials
import Glibc

/// A directory that only its owner may enter, and what lies in it, by a descriptor: what is checked is what is read.
final class GuardedDirectory {
  private let path: String
  private let descriptor: Int32

  init(_ path: String) throws(FileProblem) {
    self.path = path
    descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw errno == ENOENT
        ? FileProblem("\(path): is not there", fix: "cordon issuer init") : FileProblem(path, errno: errno)
    }
    do throws(FileProblem) {
      try GuardedFile.check(descriptor, path, kind: S_IFDIR)
    } catch {
      close(descriptor)
      throw error
    }
  }

  deinit { close(descriptor) }

  /// Waits until nobody else has it; held until this value is gone.
  func lock() throws(FileProblem) {
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else { throw FileProblem(path, errno: errno) }
    }
  }

  func names() throws(FileProblem) -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd/\(descriptor)") } catch {
      throw FileProblem("\(path): cannot be listed: \(error)", fix: "look at the directory")
    }
  }

  func read(_ name: String, most: Int) throws(FileProblem) -> [UInt8] {
    try GuardedFile.read(name, beneath: descriptor, shown: "\(path)/\(name)", most: most)
  }

  func write(_ bytes: [UInt8], to name: String) throws(FileProblem) {
    try GuardedFile.write(bytes, to: name, beneath: descriptor, shown: "\(path)/\(name)")
  }

  func remove(_ name: String) throws(FileProblem) {
    guard unlinkat(descriptor, name, 0) == 0 || errno == ENOENT, fsync(descriptor) == 0 else {
      throw FileProblem("\(path)/\(name)", errno: errno)
    }
  }
}

/// Files that only their owner may read.
public enum GuardedFile {
  /// The bytes of a secret, without white space at the end.
  public static func secret(_ path: String, most: Int = 4_096) throws(FileProblem) -> [UInt8] {
    var bytes = try read(path, beneath: AT_FDCWD, shown: path, most: most)
    while let last = bytes.last, [9, 10, 13, 32].contains(last) { bytes.removeLast() }
    return bytes
  }

  /// A file that is there to be held by one process at a time. It stays, because removing it would let two hold two.
  public final class Lock: Sendable {
    private let descriptor: Int32

    /// - Throws: `FileProblem` where another process, or this one, holds it.
    public init(_ path: String) throws(FileProblem) {
      descriptor = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else { throw FileProblem(path, errno: errno) }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        let code = errno
        close(descriptor)
        throw code == EWOULDBLOCK
          ? FileProblem("\(path): is held by another process", fix: "give each its own file")
          : FileProblem(path, errno: code)
      }
    }

    deinit { close(descriptor) }
  }

  /// Makes the directory that a file is to lie in, and those above it, for the owner alone; what is there stays as it is.
  public static func makeDirectory(of path: String) throws(FileProblem) {
    let parts = path.split(separator: "/").dropLast()
    for count in parts.indices {
      let directory = (path.hasPrefix("/") ? "/" : "") + parts[...count].joined(separator: "/")
      guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw FileProblem(directory, errno: errno) }
    }
  }

  /// Whether there is anything of that name.
  public static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// Puts `bytes` in the place of what is there, for the owner alone to read.
  public static func replace(_ path: String, with bytes: [UInt8]) throws(FileProblem) {
    try inDirectory(of: path) { directory, name throws(FileProblem) in
      try write(bytes, to: name, beneath: directory, shown: path)
    }
  }

  /// A file that was not there, for its owner alone to read: its place is taken before there is anything to write.
  public final class New: Sendable {
    private let path: String
    private let descriptor: Int32

    public init(_ path: String) throws(FileProblem) {
      self.path = path
      descriptor = try GuardedFile.new(path, beneath: AT_FDCWD, shown: path)
    }

    deinit { close(descriptor) }

    public func write(_ bytes: [UInt8]) throws(FileProblem) {
      try GuardedFile.put(bytes, into: descriptor, shown: path)
    }

    public func remove() { unlink(path) }
  }

  /// Whoever reads it sees all of it or what was there before, also after a power cut.
  fileprivate static func write(
    _ bytes: [UInt8], to name: String, beneath directory: Int32, shown: String
  ) throws(FileProblem) {
    let beside = name + ".new"
    unlinkat(directory, beside, 0)
    try put(bytes, into: beside, beneath: directory, shown: shown)
    guard renameat(directory, beside, directory, name) == 0, fsync(directory) == 0 else {
      throw FileProblem(shown, errno: errno)
    }
  }

  private static func put(
    _ bytes: [UInt8], into name: String, beneath directory: Int32, shown: String
  ) throws(FileProblem) {
    let file = try new(name, beneath: directory, shown: shown)
    defer { close(file) }
    try put(bytes, into: file, shown: shown)
  }

  private static func new(_ name: String, beneath directory: Int32, shown: String) throws(FileProblem) -> Int32 {
    let file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw FileProblem(shown, errno: errno) }
    return file
  }

  private static func put(_ bytes: [UInt8], into file: Int32, shown: String) throws(FileProblem) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw FileProblem(shown, errno: errno) }
      rest = rest.dropFirst(count)
    }
    guard fsync(file) == 0 else { throw FileProblem(shown, errno: errno) }
  }

  private static func inDirectory(
    of path: String, _ body: (Int32, String) throws(FileProblem) -> Void
  ) throws(FileProblem) {
    let parts = path.split(separator: "/", omittingEmptySubsequences: true)
    guard let name = parts.last else { throw FileProblem("\(path): is no path of a file", fix: "name a file") }
    let parent = (path.hasPrefix("/") ? "/" : "./") + parts.dropLast().joined(separator: "/")
    let directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else { throw FileProblem(parent, errno: errno) }
    defer { close(directory) }
    try body(directory, String(name))
  }

  static func read(_ name: String, beneath directory: Int32, shown: String, most: Int) throws(FileProblem) -> [UInt8] {
    // A pipe in its place must not keep the reader waiting.
    let file = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard file >= 0 else { throw FileProblem(shown, errno: errno) }
    defer { close(file) }
    try check(file, shown, kind: S_IFREG)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while bytes.count <= most {
      let count = Glibc.read(file, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw FileProblem(shown, errno: errno) }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
    throw FileProblem("\(shown): has more than \(most) bytes", fix: "name the right file")
  }

  fileprivate static func check(_ descriptor: Int32, _ shown: String, kind: mode_t) throws(FileProblem) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw FileProblem(shown, errno: errno) }
    let wanted = kind == S_IFDIR ? "a directory" : "a file"
    guard status.st_mode & S_IFMT == kind else { throw FileProblem("\(shown): is not \(wanted)", fix: "name another") }
    guard status.st_uid == geteuid() else {
      throw FileProblem("\(shown): belongs to uid \(status.st_uid)", fix: "chown \(geteuid()) \(shown)")
    }
    let mode = kind == S_IFDIR ? "0700" : "0600"
    guard status.st_mode & 0o077 == 0 else {
      throw FileProblem(
        "\(shown): has mode 0\(String(status.st_mode & 0o7777, radix: 8)), so others may use it",
        fix: "chmod \(mode) \(shown)")
    }
  }
}

/// A file or directory that is not used, and what to do.
public struct FileProblem: Error, Equatable, CustomStringConvertible {
  public let description: String

  init(_ what: String, fix: String) {
    description = "\(what) (fix: \(fix))"
  }

  init(_ path: String, errno code: Int32) {
    description = "\(path): \(String(cString: strerror(code)))"
  }
}
