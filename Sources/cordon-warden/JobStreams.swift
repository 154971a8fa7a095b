import Glibc
import Kernel

/// What is a job's stdin, stdout or stderr. The worker made the descriptor, the job will hold it.
struct JobStream {
  let descriptor: Descriptor
  private let isPipe: Bool

  /// Nil for what no job may hold: a directory would be a door into the host's tree, a device whatever its driver makes of it.
  init?(_ descriptor: Descriptor) {
    var status = stat()
    guard fstat(descriptor.raw, &status) == 0 else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFIFO, S_IFREG, S_IFSOCK: break
    case S_IFCHR where status.st_rdev == JobStream.nullDevice: break
    default: return nil
    }
    self.descriptor = descriptor
    isPipe = status.st_mode & S_IFMT == S_IFIFO
  }

  /// Major 1, minor 3 in the kernel's numbering of memory devices.
  private static let nullDevice: dev_t = 0x103

  /// A pipe belongs to who made it, and opening /dev/stdout anew asks for permission. Where this fails the job can
  /// still write to the descriptor it has.
  func giveAway(to user: UInt32) {
    if isPipe { _ = fchown(descriptor.raw, user, user) }
  }
}
