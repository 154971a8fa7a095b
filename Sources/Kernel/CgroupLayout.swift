import Glibc

/// Which cgroup world a host offers, decided by what is mounted and never by a distribution's name.
public enum CgroupLayout: Equatable, Sendable {
  /// One cgroup2 hierarchy with the memory, pids and cpu controllers, mounted at this path.
  case unified(mount: String)
  /// The controllers on v1 hierarchies (mount path by controller), and a cgroup2 hierarchy that can kill a group.
  case hybrid(mount: String, controllers: [String: String])

  /// Controllers without which no job runs.
  public static let required = ["memory", "pids", "cpu"]

  /// That of this host.
  ///
  /// - Parameter proc: root of the host's proc filesystem.
  public static func ofHost(proc: Descriptor) throws(Unavailable) -> CgroupLayout {
    let mountinfo = try requiring("cgroup", fix: "make /proc readable") { () throws(SystemError) in
      try proc.readText("self/mountinfo")
    }
    return try choose(mountinfo: mountinfo) { mount throws(SystemError) in
      try Descriptor.open(mount, O_RDONLY | O_DIRECTORY).readText(CgroupFile.controllers)
    }
  }

  /// - Parameters:
  ///   - mountinfo: text of /proc/self/mountinfo.
  ///   - controllers: content of `cgroup.controllers` in the directory of the cgroup2 mount that is given.
  /// - Throws: `Unavailable` naming each controller that is nowhere.
  public static func choose(
    mountinfo: String, controllers: (_ mount: String) throws(SystemError) -> String
  ) throws(Unavailable) -> CgroupLayout {
    // By bytes: as characters, what a mount's name begins or ends with may combine with the blank or newline beside it.
    let mounts = mountinfo.utf8.split(separator: UInt8(ascii: "\n")).compactMap { CgroupMount(line: Substring($0)) }
    guard let unified = mounts.first(where: { $0.isUnified }) else {
      throw Unavailable(
        control: "cgroup.kill", stage: "no cgroup2 hierarchy is mounted",
        fix: "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1")
    }
    let offered = try requiring("cgroup", fix: "make \(unified.path) readable") { () throws(SystemError) in
      try controllers(unified.path).split { $0 == " " || $0 == "\n" }.map(String.init)
    }
    if required.allSatisfy(offered.contains) { return .unified(mount: unified.path) }
    var legacy: [String: String] = [:]
    for controller in required {
      legacy[controller] = mounts.first { !$0.isUnified && $0.options.contains(controller) }?.path
    }
    let absent = required.filter { legacy[$0] == nil }
    guard absent.isEmpty else {
      throw Unavailable(
        control: "cgroup.\(absent[0])", stage: "no hierarchy has the controllers \(absent.joined(separator: ", "))",
        fix: "boot without cgroup_disable=, and give a container its cgroups (--cgroupns=private, writable)")
    }
    return .hybrid(mount: unified.path, controllers: legacy)
  }
}

/// One line of mountinfo that is a cgroup hierarchy.
struct CgroupMount {
  var path: String
  var isUnified: Bool
  /// Options of the superblock; on v1 they name the controllers.
  var options: [String]

  /// Nil for other filesystems and for lines that are none of mountinfo's.
  init?(line: Substring) {
    let fields = line.utf8.split(separator: UInt8(ascii: " ")).map { Substring($0) }
    // The optional fields before the dash vary in number.
    guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 3 else { return nil }
    switch fields[dash + 1] {
    case "cgroup2": isUnified = true
    case "cgroup": isUnified = false
    default: return nil
    }
    path = CgroupMount.unescape(fields[4])
    options = fields[dash + 3].split(separator: ",").map(String.init)
  }

  /// The kernel writes space, tab, newline and backslash in a path as three octal digits behind a backslash.
  static func unescape(_ field: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(field.utf8)[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == 0x5C, digits.count == 3, digits.allSatisfy({ (0x30...0x37).contains($0) }) {
        bytes.append(UInt8(truncatingIfNeeded: digits.reduce(0) { $0 * 8 + Int($1 - 0x30) }))
        rest = rest.dropFirst(3)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
