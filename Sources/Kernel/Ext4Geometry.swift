import Glibc

// Theory of operation
//
// An ext4 filesystem that is to hold so many bytes and files has to be larger by what it needs itself. Its layout is
// fixed by the arguments here, so that this can be counted beforehand: groups of blocks, each with two bitmaps and its
// part of the inode table; one superblock and one table of group descriptors, without copies; no journal, because nothing
// of it outlives the cell; the root directory. The kernel keeps 2 % of the blocks, at most 4096, from everybody. Groups
// are as large as can be, and smaller where there are so many inodes that a bitmap of one block could not name them.
//
// There is a little more than was asked for. A write needs all blocks of a folio, which may have 2 MiB, or fails; so that
// much room is left, and who is refused a block has taken what was not his. Inodes come in whole blocks of 16 for each
// group, and mkfs does not keep a last group that is too small. Whoever counts what was used against what was asked for
// (`isExceeded`) is exact all the same. What a directory takes, and the map of a file in many pieces, counts as used; the
// maps of files in few pieces do not.

/// The layout of an ext4 filesystem for a number of bytes and files.
public struct Ext4Geometry: Equatable, Sendable {
  public static let blockBytes: Int64 = 4_096

  /// Blocks whose use is within what was asked for.
  public let allowedBlocks: Int64
  /// Files and directories that are within it.
  public let allowedInodes: Int64
  /// Blocks of the whole filesystem.
  public let blocks: Int64
  /// Inodes mkfs is asked for.
  public let inodes: Int64
  private let groupBlocks: Int64

  /// The largest is what a bitmap of one block can name.
  private static let groupSizes: [Int64] = [32_768, 16_384, 8_192, 4_096, 2_048, 1_024]
  /// Beyond what is allowed: one folio.
  private static let slack: Int64 = 512
  private static let inodesPerBlock: Int64 = 16
  private static let descriptorsPerBlock: Int64 = 64
  /// Below what a group's bitmap of one block can name.
  private static let mostInodesPerGroup: Int64 = 32_000
  /// Ten that ext4 keeps for itself, and that of lost+found.
  private static let ownInodes: Int64 = 11
  /// Root directory, and lost+found, which is removed.
  private static let ownDirectories: Int64 = 5
  /// mkfs gives up a last group that has fewer blocks beside its own.
  private static let leastOfGroup: Int64 = 64
  private static let mostReserved: Int64 = 4_096
  /// A map for every so many blocks, 16 MiB; and two, because a small area that is nearly full comes in pieces.
  private static let blocksPerMap: Int64 = 4_096
  private static let leastMaps: Int64 = 2

  /// - Parameters: what the filesystem is to hold, both bounded by the caller.
  public init(bytes: Int64, files: Int64) {
    let data = Self.ceiling(max(bytes, 0), Self.blockBytes)
    allowedBlocks = data + Self.leastMaps + data / Self.blocksPerMap
    allowedInodes = max(files, 0)
    // One beyond what is allowed: who takes it has asked for more.
    inodes = allowedInodes + 1 + Self.ownInodes
    let wanted = (blocks: allowedBlocks + Self.slack, inodes: inodes)
    let smallest = Self.groupSizes[Self.groupSizes.count - 1]
    groupBlocks = Self.groupSizes.first { Self.layout(wanted.blocks, wanted.inodes, $0).fits } ?? smallest
    blocks = Self.layout(wanted.blocks, wanted.inodes, groupBlocks).blocks
  }

  /// Blocks of a filesystem with groups of this size, and whether their bitmaps can name the inodes.
  private static func layout(_ wanted: Int64, _ inodes: Int64, _ groupBlocks: Int64) -> (blocks: Int64, fits: Bool) {
    var groups: Int64 = 1
    while true {
      let table = ceiling(ceiling(inodes, groups), inodesPerBlock)
      let own = 1 + ceiling(groups, descriptorsPerBlock) + groups * (2 + table) + ownDirectories
      let least = (groups - 1) * groupBlocks + 2 + table + leastOfGroup
      let blocks = max(own + wanted + min(ceiling(own + wanted, 49), mostReserved), least)
      let needed = ceiling(blocks, groupBlocks)
      if needed <= groups { return (blocks, table * inodesPerBlock <= mostInodesPerGroup) }
      groups = needed
    }
  }

  public var bytes: UInt64 { UInt64(blocks * Self.blockBytes) }

  /// Whether more is in use than was asked for; `start` is the filesystem when it was empty.
  public func isExceeded(_ now: FilesystemSpace, since start: FilesystemSpace) -> Bool {
    Self.used(start.blocksFree, now.blocksFree) > allowedBlocks
      || Self.used(start.inodesFree, now.inodesFree) > allowedInodes
  }

  /// Whether an empty filesystem can hold all of it, and what there is to be beyond.
  public func fits(_ space: FilesystemSpace, availableBlocks: Int64) -> Bool {
    availableBlocks >= allowedBlocks + Self.slack && Int64(clamping: space.inodesFree) > allowedInodes
  }

  /// Arguments of mkfs.ext4 behind its name. No profile of the host's has a say: every feature is named.
  public func arguments(path: String) -> [String] {
    [
      "-q", "-F", "-F", "-b", "\(Self.blockBytes)", "-g", "\(groupBlocks)", "-I", "256", "-N", "\(inodes)", "-m",
      "0", "-e", "remount-ro", "-O",
      "none,extent,64bit,flex_bg,uninit_bg,filetype,dir_index,dir_nlink,extra_isize,large_file,huge_file,sparse_super2",
      // The file is preallocated, so its inode tables read as zeros already.
      "-E", "num_backup_sb=0,lazy_itable_init=1,nodiscard", path, "\(blocks)",
    ]
  }

  private static func used(_ start: UInt64, _ now: UInt64) -> Int64 {
    Int64(clamping: start) - Int64(clamping: now)
  }

  private static func ceiling(_ value: Int64, _ unit: Int64) -> Int64 { (value + unit - 1) / unit }
}
