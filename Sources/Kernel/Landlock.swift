import CLinux
import Glibc

// A second wall behind mounts and filter, where the kernel has it: what a process may do with files is decided once
// more, by rules that no later mount, descriptor or namespace can widen. A path is allowed what any directory above it
// was granted.

/// Landlock rules for the calling process.
public struct Landlock {
  /// Rights on files and directories.
  public struct Rights: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    private init(_ bits: Int...) { rawValue = UInt64(bits.reduce(0, |)) }

    public static let read = Rights(Int(CORDON_LANDLOCK_READ_FILE), Int(CORDON_LANDLOCK_READ_DIRECTORY))
    public static let execute = Rights(Int(CORDON_LANDLOCK_EXECUTE))
    /// Writing to files that are there.
    public static let write = Rights(
      Int(CORDON_LANDLOCK_WRITE_FILE), Int(CORDON_LANDLOCK_TRUNCATE), Int(CORDON_LANDLOCK_DEVICE_IOCTL))
    /// Making, moving and removing everything but devices.
    public static let change = Rights(
      Int(CORDON_LANDLOCK_REMOVE_DIRECTORY), Int(CORDON_LANDLOCK_REMOVE_FILE), Int(CORDON_LANDLOCK_MAKE_DIRECTORY),
      Int(CORDON_LANDLOCK_MAKE_FILE), Int(CORDON_LANDLOCK_MAKE_SOCKET), Int(CORDON_LANDLOCK_MAKE_FIFO),
      Int(CORDON_LANDLOCK_MAKE_LINK), Int(CORDON_LANDLOCK_REFER))
    static let devices = Rights(
      Int(CORDON_LANDLOCK_MAKE_CHARACTER_DEVICE), Int(CORDON_LANDLOCK_MAKE_BLOCK_DEVICE))

    /// All that a kernel of this version can decide on.
    static func known(_ version: Int32) -> Rights {
      var rights: Rights = [.read, .execute, .write, .change, .devices]
      if version < 5 { rights.remove(Rights(Int(CORDON_LANDLOCK_DEVICE_IOCTL))) }
      if version < 3 { rights.remove(Rights(Int(CORDON_LANDLOCK_TRUNCATE))) }
      return rights
    }

    /// Those a rule on something that is no directory may name.
    static let ofFiles = Rights(
      Int(CORDON_LANDLOCK_READ_FILE), Int(CORDON_LANDLOCK_WRITE_FILE), Int(CORDON_LANDLOCK_EXECUTE),
      Int(CORDON_LANDLOCK_TRUNCATE), Int(CORDON_LANDLOCK_DEVICE_IOCTL))
  }

  /// Version of the kernel's Landlock that is used: at least 2, because version 1 refuses every move between
  /// directories. Nil where there is none.
  public static func version() -> Int32? {
    let version = cordon_landlock_version()
    return version >= 2 ? version : nil
  }

  private let version: Int32
  private let rules: Descriptor

  /// Rules that grant nothing: no file, no TCP port, and from version 6 on no signal and no abstract socket beyond the
  /// processes that are under the same rules.
  /// - Parameter connects: whether TCP may be connected all the same; where that leads is the network namespace's.
  public init(version: Int32, connects: Bool = false) throws(SystemError) {
    self.version = version
    rules = Descriptor(
      owning: try SystemError.check(
        cordon_landlock_rules(
          version, Rights.known(version).rawValue, connects ? Landlock.bind : Landlock.bind | Landlock.connect,
          Landlock.bothScopes), "landlock_create_ruleset"))
  }

  /// What a rule is about: a file, or a directory and everything beneath it.
  public struct Place {
    let descriptor: Descriptor
    let isDirectory: Bool

    /// Where a descriptor may be that is held anyway; numbers below it are in use.
    public var number: Int32 { descriptor.raw }

    /// - Parameter descriptor: O_PATH will do.
    public init(_ descriptor: Descriptor) throws(SystemError) {
      var status = stat()
      try SystemError.check(fstat(descriptor.raw, &status), "stat for landlock")
      self.init(descriptor, isDirectory: status.st_mode & S_IFMT == S_IFDIR)
    }

    /// One of which that is known.
    public init(_ descriptor: Descriptor, isDirectory: Bool) {
      self.descriptor = descriptor
      self.isDirectory = isDirectory
    }
  }

  /// Grants rights on a place; of files, those that files have.
  public func allow(_ rights: Rights, beneath place: Place) throws(SystemError) {
    let granted = rights.intersection(.known(version)).intersection(place.isDirectory ? .known(version) : .ofFiles)
    try SystemError.check(
      cordon_landlock_allow(rules.raw, place.descriptor.raw, granted.rawValue), "landlock_add_rule")
  }

  /// Puts the calling process, which has one thread, under the rules. Needs no_new_privs.
  public func restrict() throws(SystemError) {
    try SystemError.check(cordon_landlock_restrict(rules.raw), "landlock_restrict_self")
  }

  /// LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP.
  private static let bind: UInt64 = 0b01
  private static let connect: UInt64 = 0b10
  /// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL.
  private static let bothScopes: UInt64 = 0b11
}
