import Glibc
import Kernel

/// The cgroup directories of one warden, in every hierarchy, as anyone on the host can see them.
struct CellGroups: Sendable {
  private let mounts: [String]
  private let warden: Int32

  init(warden: Int32) throws {
    self.warden = warden
    switch try CgroupLayout.ofHost(proc: try Descriptor.open("/proc", O_RDONLY | O_DIRECTORY)) {
    case .unified(let mount): mounts = [mount]
    // The first one is what cells are cloned into and killed by.
    case .hybrid(let mount, let controllers):
      mounts = [mount] + CgroupLayout.required.compactMap { controllers[$0] }
    }
  }

  /// Every group of a cell, by hierarchy.
  func cells() -> [[String]] {
    mounts.map { mount in
      let instances = (ProcFile.names(in: "\(mount)/cordon") ?? []).filter {
        let parts = $0.split(separator: "-")
        return parts.count == 4 && parts[0] == "warden" && parts[2] == "\(warden)"
      }
      return instances.flatMap { instance in
        let path = "\(mount)/cordon/\(instance)"
        return (ProcFile.names(in: path) ?? []).map { "\(path)/\($0)" }.filter { Self.isDirectory($0) }
      }
    }
  }

  /// Directories in all hierarchies.
  func count() -> Int { cells().reduce(0) { $0 + $1.count } }

  /// Cells that are there, running or waiting: groups of the first hierarchy with a process in them.
  func live() -> [String] { cells()[0].filter { !Self.isEmpty($0) } }

  /// Groups that a finished cell has left behind so far: without a process. Not the youngest, which wait for the next cell.
  func leftovers() -> [String] {
    let all = cells()
    let kept = all[0].filter { Self.isEmpty($0) }.max { Self.serial($0) < Self.serial($1) }.map { Self.serial($0) }
    return all.flatMap { $0 }.filter { Self.serial($0) != kept && Self.isEmpty($0) }
  }

  private static func serial(_ group: String) -> UInt64 { group.split(separator: "-").last.flatMap { UInt64($0) } ?? 0 }

  /// Groups of the first hierarchy that are removed but still held.
  func dying() -> Int? {
    ProcFile.text(mounts[0] + "/cordon/cgroup.stat").flatMap { ProcFile.value("nr_dying_descendants", in: $0) }
  }

  /// The memory controller's group of the same cell.
  func memoryGroup(of cell: String) -> String? {
    let name = cell.split(separator: "/").suffix(2).joined(separator: "/")
    return mounts.map { "\($0)/cordon/\(name)" }.first {
      access("\($0)/memory.kmem.usage_in_bytes", R_OK) == 0 || access("\($0)/memory.stat", R_OK) == 0
    }
  }

  static func processes(in group: String) -> [Int32] {
    (ProcFile.text(group + "/cgroup.procs") ?? "").split(separator: "\n").compactMap { Int32($0) }
  }

  private static func isEmpty(_ group: String) -> Bool {
    // A zombie is listed nowhere but still populates its v2 group.
    if let events = ProcFile.text(group + "/cgroup.events") { return ProcFile.value("populated", in: events) == 0 }
    return ProcFile.text(group + "/cgroup.procs") == ""
  }

  private static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }
}
