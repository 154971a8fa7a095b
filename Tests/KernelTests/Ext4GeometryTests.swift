import Glibc
import Testing

@testable import Kernel

@Suite struct Ext4GeometryTests {
  private static let sizes: [(bytes: Int64, files: Int64)] = [
    (0, 0), (1, 1), (4_096, 8), (1 << 20, 1_024), (100 << 20, 70_000), (128 << 20, 1_024), ((128 << 20) + 4_096, 16),
    (3 << 30, 1_000_000), (1 << 40, 1_024), (1 << 44, 100_000_000),
  ]

  /// mkfs.ext4 on a sparse file, and what it made of it by its own words.
  private static func made(_ geometry: Ext4Geometry) throws -> [String: Int64] {
    var template = Array("/var/tmp/cordon-geometry-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      close(descriptor)
      unlink(path)
    }
    let quiet = geometry.arguments(path: path).joined(separator: " ")
    let command =
      "truncate -s \(geometry.bytes) \(path) && MKE2FS_CONFIG=/dev/null mkfs.ext4 \(quiet) && dumpe2fs -h \(path) 2>/dev/null"
    guard let pipe = popen(command, "r") else { return [:] }
    var found: [String: Int64] = [:]
    var line = [CChar](repeating: 0, count: 512)
    while fgets(&line, Int32(line.count), pipe) != nil {
      let bytes = line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      let parts = String(decoding: bytes, as: UTF8.self).split(separator: ":")
      guard parts.count == 2, let value = Int64(parts[1].filter { !$0.isWhitespace }) else { continue }
      found[String(parts[0])] = value
    }
    #expect(pclose(pipe) == 0)
    return found
  }

  /// What is counted beforehand is what mkfs makes, and a little more at most.
  @Test(arguments: sizes.filter { $0.bytes <= 3 << 30 })
  func mkfsLeavesRoom(bytes: Int64, files: Int64) throws {
    let geometry = Ext4Geometry(bytes: bytes, files: files)
    let made = try Self.made(geometry)
    let blocks = try #require(made["Block count"])
    // Four of them come with the removal of lost+found.
    let free = try #require(made["Free blocks"]) + 4
    let reserved = min(blocks / 50, 4_096)
    #expect(free - reserved >= geometry.allowedBlocks + 512)
    #expect(free - reserved < geometry.allowedBlocks + 512 + 128 + blocks / 500, "\(made)")
    let inodes = try #require(made["Free inodes"]) + 1
    let size = try #require(made["Blocks per group"])
    let groups = (blocks + size - 1) / size
    #expect(inodes > files && inodes <= files + 2 + 16 * groups, "\(made)")
  }

  @Test(arguments: sizes) func itGrowsWithWhatItHolds(bytes: Int64, files: Int64) {
    let geometry = Ext4Geometry(bytes: bytes, files: files)
    #expect(geometry.bytes > UInt64(bytes) && geometry.inodes > files)
    #expect(geometry.bytes < UInt64(bytes + bytes / 32 + files * 300 + (32 << 20)))
  }

  @Test func whatIsExceeded() {
    let geometry = Ext4Geometry(bytes: 1 << 20, files: 10)
    #expect(geometry.allowedBlocks == 256 + 2 && geometry.allowedInodes == 10)
    let start = FilesystemSpace(blocks: 1_000, blocksFree: 500, inodes: 100, inodesFree: 80)
    func now(_ blocks: UInt64, _ inodes: UInt64) -> Bool {
      geometry.isExceeded(
        FilesystemSpace(blocks: 1_000, blocksFree: 500 - blocks, inodes: 100, inodesFree: 80 - inodes), since: start)
    }
    #expect(!now(0, 0) && !now(258, 10))
    #expect(now(259, 0) && now(0, 11))
    #expect(geometry.fits(start, availableBlocks: 770) && !geometry.fits(start, availableBlocks: 769))
    let few = FilesystemSpace(blocks: 1_000, blocksFree: 500, inodes: 100, inodesFree: 10)
    #expect(!geometry.fits(few, availableBlocks: 900))
  }
}
