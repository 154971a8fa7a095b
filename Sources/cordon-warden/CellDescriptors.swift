import CLinux
import Glibc
import Kernel

/// What a process forked from the warden keeps of its descriptors.
enum CellDescriptors {
  /// Numbers the two descriptors get.
  static let first: Int32 = 3
  static let second: Int32 = 4

  /// Leaves /dev/null as 0, 1 and 2, and the two given. Copies of the warden's other descriptors, those of sibling cells
  /// among them, are gone after this; the objects that held them must never be used again in this process.
  static func keepOnly(_ one: Descriptor, _ two: Descriptor, null: Descriptor) -> (Int32, Int32) {
    // Out of the way first: either may have a number that is about to be taken.
    let (high, higher) = (fcntl(one.raw, F_DUPFD_CLOEXEC, lowestCopy), fcntl(two.raw, F_DUPFD_CLOEXEC, lowestCopy))
    for standard: Int32 in 0...2 where null.raw != standard { dup2(null.raw, standard) }
    dup2(high, first)
    dup2(higher, second)
    cordon_close_range(UInt32(second) + 1, UInt32.max)
    cordon_cloexec_range(UInt32(first), UInt32(second))
    return (first, second)
  }

  private static let lowestCopy: Int32 = 16
}
