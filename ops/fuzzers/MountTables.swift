@testable import Kernel

/// /proc/self/mountinfo, where users of the host may have put mounts of their own beside the kernel's.
enum MountTables: Fuzzer {
  private static let hierarchy = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:2 - cgroup2 cgroup2 rw\n"

  static var seeds: [[UInt8]] {
    [
      hierarchy,
      """
      31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 master:2 - cgroup cgroup rw,cpu,cpuacct
      35 31 0:32 / /sys/fs/cgroup/my\\040memory rw,relatime - cgroup cgroup rw,memory
      39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
      """, "- - - - - - - -", "1 2 0:3 / /x\\777 rw - cgroup2",
      "50 31 0:40 / /home/u/\u{301}x rw - fuse.x \u{301} rw,user_id=1000\r\n",
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    [" - ", "cgroup2", "cgroup", "memory", "pids", "cpu", "\\040", "\\012", "\n", "\r\n", "/sys/fs/cgroup", "\u{301}"]
      .map { Array($0.utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    let layout = try? CgroupLayout.choose(mountinfo: text) { _ throws(SystemError) in "memory pids" }
    switch layout {
    case .unified: fatalError("a hierarchy without a controller carries no cell")
    case .hybrid(_, let controllers):
      expect(Set(controllers.keys) == Set(CgroupLayout.required), "a layout has every controller")
    case nil: break
    }
    for field in text.split(separator: " ") {
      expect(CgroupMount.unescape(field).utf8.count <= 3 * field.utf8.count, "escapes make a path no longer")
    }
    // A mount beside the hierarchy must not hide it. The kernel writes no blank, tab and newline as such in a field.
    let options = String(decoding: bytes.filter { ![0x20, 0x09, 0x0A, 0].contains($0) }.prefix(64), as: UTF8.self)
    guard !options.utf8.contains(UInt8(ascii: "-")), !text.contains("cgroup2") else { return }
    let other = "50 31 0:40 / /mnt rw - fuse.x \(options) rw,\(options)\n"
    let chosen = try? CgroupLayout.choose(mountinfo: other + hierarchy) { _ throws(SystemError) in "memory pids cpu" }
    expect(
      chosen == .unified(mount: "/sys/fs/cgroup/unified"), "a mount beside it does not hide the hierarchy: \(other)")
  }
}
