import CLinux
import Glibc

/// A block device whose blocks are those of a file. The kernel lets go of the file when the device is neither open nor
/// mounted any more, so a process that dies leaves none.
public struct LoopDevice {
  /// The device, open.
  public let descriptor: Descriptor

  /// Others take the same free number now and then; each of them is done in a moment.
  private static let attempts = 64

  /// Binds the file to a device that nobody uses.
  ///
  /// - Parameters:
  ///   - control: /dev/loop-control.
  ///   - devices: the directory in which the kernel makes the devices' nodes.
  public static func bind(
    _ file: Descriptor, control: Descriptor, devices: Descriptor
  ) throws(SystemError) -> LoopDevice {
    for attempt in 1... {
      let number = try SystemError.check(cordon_loop_free(control.raw), "find a free loop device")
      let device = try Descriptor.open("loop\(number)", O_RDWR, at: devices)
      if cordon_loop_configure(device.raw, file.raw) == 0 { return LoopDevice(descriptor: device) }
      guard errno == EBUSY, attempt < attempts else { throw SystemError("bind loop\(number)", errno: errno) }
    }
    throw SystemError("find a free loop device", errno: EBUSY)
  }
}

extension Descriptor {
  /// A file without a name on the filesystem of this directory, gone with its last descriptor.
  public func makeNamelessFile() throws(SystemError) -> Descriptor {
    Descriptor(owning: try SystemError.check(cordon_nameless_file(raw), "open a file without a name"))
  }

  /// Gives the file its blocks now, or fails.
  public func preallocate(_ bytes: UInt64) throws(SystemError) {
    // Where there is too little room, fallocate(2) says so when it has taken all there is, and until the file is closed
    // everybody else on that disk, a database perhaps, has none.
    var space = statvfs()
    try SystemError.check(fstatvfs(raw, &space), "fstatvfs")
    guard bytes <= UInt64(space.f_bavail) * UInt64(space.f_frsize) else {
      throw SystemError("preallocate \(bytes) bytes", errno: ENOSPC)
    }
    try SystemError.check(cordon_preallocate(raw, bytes), "preallocate \(bytes) bytes")
  }

  /// True where files of this directory's filesystem lie in memory.
  public func liesInMemory() throws(SystemError) -> Bool {
    try SystemError.check(cordon_filesystem_is_memory(raw), "fstatfs") == 1
  }

  /// Tells the filesystem that what is not written yet need not be; every later access to it fails.
  public func abandonFilesystem() throws(SystemError) {
    try SystemError.check(cordon_filesystem_abandon(raw), "shut the filesystem down")
  }
}
