import Glibc
import Kernel

/// What may be a job's stdin, stdout or stderr. The worker made these descriptors, the job will hold them.
extension Descriptor {
  /// A directory would be a door into the host's tree, a device whatever its driver makes of it.
  var isJobStream: Bool {
    var status = stat()
    guard fstat(raw, &status) == 0 else { return false }
    switch status.st_mode & S_IFMT {
    case S_IFIFO, S_IFREG, S_IFSOCK: return true
    case S_IFCHR: return status.st_rdev == Descriptor.nullDevice
    default: return false
    }
  }

  /// Major 1, minor 3 in the kernel's numbering of memory devices.
  private static let nullDevice: dev_t = 0x103

  /// A pipe belongs to who made it, and opening /dev/stdout anew asks for permission. Where this fails the job can
  /// still write to the descriptor it has.
  func giveAway(to user: UInt32) {
    var status = stat()
    if fstat(raw, &status) == 0, status.st_mode & S_IFMT == S_IFIFO { _ = fchown(raw, user, user) }
  }
}
