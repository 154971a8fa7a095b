import CLinux
import Glibc

extension Descriptor {
  /// A memory file with these bytes that nobody can change any more, at its beginning.
  ///
  /// - Parameter mode: its permissions, where they are not to be those of the kernel's choice: 0o111 is a program that its
  ///   processes cannot read.
  public static func sealedMemory(
    _ name: String, _ bytes: [UInt8], mode: mode_t? = nil
  ) throws(SystemError) -> Descriptor {
    let memory = Descriptor(owning: try SystemError.check(cordon_memfd(name), "memfd_create"))
    try memory.writeAll(bytes)
    if let mode { try SystemError.check(fchmod(memory.raw, mode), "chmod \(name)") }
    try SystemError.check(cordon_memfd_seal(memory.raw), "seal \(name)")
    try SystemError.check(lseek(memory.raw, 0, SEEK_SET), "rewind \(name)")
    return memory
  }
}
