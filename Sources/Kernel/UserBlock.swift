import Glibc

/// A block of host uids that belongs to one warden while it lives: two wardens on a host never give a cell the same
/// uid. The claim is a lock on a file named after the block, so it ends with the process that holds it.
public struct UserBlock: Sendable {
  public let first: UInt32
  public let count: UInt32
  private let lock: Descriptor

  /// Claims the first free block.
  ///
  /// - Parameters:
  ///   - directory: where the lock files lie; made (0700) when it does not exist.
  ///   - first: first uid of block 0.
  ///   - size: uids of a block.
  ///   - blocks: how many blocks there are.
  public static func claim(
    directory: String, first: UInt32, size: UInt32, blocks: UInt32
  ) throws(Unavailable) -> UserBlock {
    let fix = "free a block (one for each warden on this host) or widen --uids"
    return try requiring("uids", fix: fix) { () throws(SystemError) in
      let locks = try makeDirectory(directory)
      for block in 0..<blocks {
        let start = first + block * size
        let lock = try Descriptor.open("uids-\(start)-\(size)", O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600, at: locks)
        if flock(lock.raw, LOCK_EX | LOCK_NB) == 0 { return UserBlock(first: start, count: size, lock: lock) }
        guard errno == EWOULDBLOCK else { throw SystemError("flock \(directory)", errno: errno) }
      }
      throw SystemError("all \(blocks) blocks of \(size) uids are taken in \(directory)", errno: EAGAIN)
    }
  }

  private static func makeDirectory(_ path: String) throws(SystemError) -> Descriptor {
    var made = ""
    for component in path.split(separator: "/") {
      made += "/" + component
      if mkdir(made, 0o700) != 0, errno != EEXIST { throw SystemError("mkdir \(made)", errno: errno) }
    }
    let directory = try Descriptor.open(made, O_RDONLY | O_DIRECTORY)
    var status = stat()
    try SystemError.check(fstat(directory.raw, &status), "stat \(made)")
    // Whoever else could write here could hold every lock.
    guard status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
      throw SystemError("\(made) is another user's or writable by others", errno: EPERM)
    }
    return directory
  }
}
