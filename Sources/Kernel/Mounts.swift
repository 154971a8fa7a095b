import CLinux
import Glibc

/// Attributes of one mount, as mount_setattr(2) has them.
public struct MountAttributes: OptionSet, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static let readOnly = MountAttributes(rawValue: UInt64(CORDON_MOUNT_RDONLY))
  public static let noSetuid = MountAttributes(rawValue: UInt64(CORDON_MOUNT_NOSUID))
  public static let noDevices = MountAttributes(rawValue: UInt64(CORDON_MOUNT_NODEV))
  public static let noExecution = MountAttributes(rawValue: UInt64(CORDON_MOUNT_NOEXEC))
}

/// A mount that is attached nowhere: it becomes visible by `attach`, or vanishes with its descriptor.
///
/// Everything here acts on the caller's mount namespace and needs a process with one thread.
public struct DetachedMount {
  public let descriptor: Descriptor

  /// A mount that came over a socket.
  public init(descriptor: Descriptor) { self.descriptor = descriptor }

  /// A copy of what is mounted at `path`; with every mount beneath when `recursive`.
  public static func clone(
    _ path: String, at directory: Descriptor? = nil, recursive: Bool
  ) throws(SystemError) -> DetachedMount {
    DetachedMount(
      descriptor: Descriptor(
        owning: try SystemError.check(
          cordon_mount_clone(directory?.raw ?? AT_FDCWD, path, recursive ? 1 : 0), "open_tree \(path)")))
  }

  /// A new instance of a filesystem.
  public static func create(
    _ filesystem: String, options: [(String, String)], flags: [String] = [], attributes: MountAttributes
  ) throws(SystemError) -> DetachedMount {
    let context = Descriptor(owning: try SystemError.check(cordon_mount_open(filesystem), "fsopen \(filesystem)"))
    for (key, value) in options {
      try SystemError.check(
        cordon_mount_option(context.raw, key, value), "set \(filesystem) option \(key)=\(value)")
    }
    for flag in flags {
      try SystemError.check(cordon_mount_flag(context.raw, flag), "set \(filesystem) option \(flag)")
    }
    return DetachedMount(
      descriptor: Descriptor(
        owning: try SystemError.check(
          cordon_mount_create(context.raw, attributes.rawValue), "create \(filesystem)")))
  }

  /// Throws where the kernel has no such filesystem.
  public static func isKnown(_ filesystem: String) throws(SystemError) {
    _ = Descriptor(owning: try SystemError.check(cordon_mount_open(filesystem), "fsopen \(filesystem)"))
  }

  /// Adds attributes, to every mount beneath as well when `recursive`.
  public func restrict(_ attributes: MountAttributes, recursive: Bool = false) throws(SystemError) {
    try SystemError.check(
      cordon_mount_attributes(descriptor.raw, attributes.rawValue, recursive ? 1 : 0), "mount_setattr")
  }

  /// Makes the mount visible at `path`, which must exist.
  public func attach(at path: String, in directory: Descriptor? = nil) throws(SystemError) {
    try SystemError.check(
      cordon_mount_attach(descriptor.raw, directory?.raw ?? AT_FDCWD, path), "move_mount to \(path)")
  }
}

public enum MountNamespace {
  /// A new instance of a filesystem at `path`, in one call: by `DetachedMount.create` and `attach` it takes ten.
  public static func mount(
    _ filesystem: String, at path: String, options: [(String, String)], attributes: MountAttributes
  ) throws(SystemError) {
    let text = options.map { "\($0)=\($1)" }.joined(separator: ",")
    try SystemError.check(
      cordon_mount(filesystem, path, attributes.rawValue, text), "mount \(filesystem) at \(path) with \(text)")
  }

  /// Cuts every propagation between this mount namespace and the one it was copied from.
  public static func makePrivate() throws(SystemError) {
    try SystemError.check(cordon_mount_private(), "make mounts private")
  }

  /// Makes the working directory, a mount, the root, and lets go of the old root.
  public static func pivotHere() throws(SystemError) {
    try SystemError.check(cordon_pivot_here(), "pivot_root")
  }

  /// Lazily detaches what is mounted at `path`.
  public static func unmount(_ path: String) throws(SystemError) {
    try SystemError.check(cordon_unmount(path), "umount \(path)")
  }

  /// Adds attributes to the mount that is the root.
  public static func restrictRoot(_ attributes: MountAttributes) throws(SystemError) {
    let root = try Descriptor.open("/", cordon_o_path | O_DIRECTORY)
    try SystemError.check(cordon_mount_attributes(root.raw, attributes.rawValue, 0), "mount_setattr /")
  }
}

/// Space of a mounted filesystem.
public struct FilesystemSpace: Equatable, Sendable {
  public var blocks: UInt64
  public var blocksFree: UInt64
  public var inodes: UInt64
  public var inodesFree: UInt64

  public static func of(_ descriptor: Descriptor) throws(SystemError) -> FilesystemSpace {
    var space = FilesystemSpace(blocks: 0, blocksFree: 0, inodes: 0, inodesFree: 0)
    try SystemError.check(
      cordon_filesystem_space(
        descriptor.raw, &space.blocks, &space.blocksFree, &space.inodes, &space.inodesFree), "fstatfs")
    return space
  }

  /// True when a block or an inode is wanting altogether.
  public var isExhausted: Bool { blocksFree == 0 || inodesFree == 0 }
}
