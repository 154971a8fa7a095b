import Glibc
import Kernel

/// A directory of our own with a random name, beneath one that several workers may share.
///
/// Whose it is, is said by an exclusive flock(2) on the directory itself, held by the descriptor for as long as
/// the owner lives: the kernel drops it with the process, however that ends, so a sweeper needs neither process
/// ids nor clocks. A sweeper may look between our mkdir and our flock; we then find the name gone, the lock taken
/// or the directory unlinked, and take another name. A parent that was removed looks the same; so only so often.
struct LockedDirectory: Sendable {
  let name: FileName
  let handle: Descriptor

  static func make(beneath parent: Descriptor, mode: mode_t) throws(SystemError) -> LockedDirectory {
    for _ in 0..<attempts {
      let name = randomName()
      do {
        let handle = try parent.makeDirectory(name, mode: mode)
        if flock(handle.raw, LOCK_EX | LOCK_NB) == 0, try handle.status().st_nlink > 0 {
          return LockedDirectory(name: name, handle: handle)
        }
      } catch  where error.errno == ENOENT {
        continue
      }
    }
    throw SystemError("make a directory beneath one that may be gone", errno: ENOENT)
  }

  /// A sweep looks at a directory once; to meet that many is to meet something else.
  private static let attempts = 100

  /// Removes every entry beneath `parent` whose owner is gone. One that cannot be removed is left for the next
  /// sweep: what is in the way of one leftover must not keep a worker from starting.
  static func sweep(_ parent: Descriptor) {
    guard let names = try? parent.names(maximum: sweepMaximum) else { return }
    for name in names {
      guard let handle = try? parent.directory(name), flock(handle.raw, LOCK_EX | LOCK_NB) == 0 else { continue }
      try? parent.removeTree(name)
    }
  }

  private static let sweepMaximum = 100_000
}
