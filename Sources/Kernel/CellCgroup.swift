import CLinux
import Glibc

/// What a cell's groups are told to enforce.
public struct CgroupLimits: Equatable, Sendable {
  public var memoryBytes: Int64
  /// Processes and threads, the cell's own init among them.
  public var pids: Int64
  /// Thousandths of one processor.
  public var cpuMillis: Int64
  /// The job has sockets of TCP, so a kernel that does not count their buffers is refused.
  public var countsSockets: Bool

  public init(memoryBytes: Int64, pids: Int64, cpuMillis: Int64, countsSockets: Bool = false) {
    self.countsSockets = countsSockets
    self.memoryBytes = memoryBytes
    self.pids = pids
    self.cpuMillis = cpuMillis
  }

  /// Where TCP buffers are counted beside the memory limit and not within it: enough for what the broker lets through at once.
  static let mostSocketBytes: Int64 = 16 << 20
  var socketBytes: Int64 { min(memoryBytes, CgroupLimits.mostSocketBytes) }

  /// Length of one accounting period of the cpu controller; the kernel's default.
  static let cpuPeriodMicroseconds: Int64 = 100_000

  /// Processor time per period.
  var cpuQuotaMicroseconds: Int64 { cpuMillis * CgroupLimits.cpuPeriodMicroseconds / 1_000 }
}

/// What a cell's groups counted.
public struct CgroupCounters: Equatable, Sendable {
  public var oomKills: UInt64
  public var pidsLimitHits: UInt64
  public var cpuMicroseconds: UInt64
  /// Nil where the kernel keeps no peak.
  public var memoryPeakBytes: UInt64?
}

/// The groups of one cell. Used once: a group that ever received `cgroup.kill` kills whatever is cloned into it.
public protocol CellCgroup: AnyObject {
  /// The v2 group: what a process is cloned into, and the handle that kills and says whether anyone is left.
  var handle: Descriptor { get }
  /// Becomes readable when the kernel runs out of memory in the group; nil where it then kills the group itself.
  var outOfMemory: Descriptor? { get }
  /// Sets the limits. Before anything of a job's runs; while the warden's own code enters and makes ready, it must neither
  /// be throttled nor ended, because the warden waits for it in the same memory.
  func apply(_ limits: CgroupLimits) throws(SystemError)
  /// Where a process comes under every limit.
  var entrance: CgroupEntrance { get }
  /// Whether a process is under every limit, from the text of its /proc/PID/cgroup.
  func holds(_ membership: String) -> Bool
  func counters() throws(SystemError) -> CgroupCounters
  /// Whether a process, or a zombie nobody reaped, is left.
  func isPopulated() throws(SystemError) -> Bool
  /// Removes the groups; false while the kernel still finds them busy.
  func remove() throws(SystemError) -> Bool
}

/// The groups that a process of a cell has to be in; as descriptors alone, so that another process can let it in.
public struct CgroupEntrance {
  /// What it is cloned into.
  public let handle: Descriptor
  /// What it enters by itself after that.
  public let others: [Descriptor]

  public init(handle: Descriptor, others: [Descriptor]) {
    self.handle = handle
    self.others = others
  }

  /// Puts the calling process, cloned into `handle` and with one thread, under every limit.
  public func enter() throws(SystemError) {
    for group in others { try group.writeText("0", to: CgroupFile.tasks) }
  }
}

extension CellCgroup {
  /// Whether `membership` names a group `name` in each hierarchy of `controllers`; "" is the v2 one.
  static func names(_ name: String, for controllers: [String], in membership: String) -> Bool {
    let groups = CgroupFile.groups(membership)
    return controllers.allSatisfy { groups[$0]?.split(separator: "/").last == name[...] }
  }

  /// Stops every process in the group where it is, or lets all go on. What is frozen can be killed; a signal waits.
  public func freeze(_ isFrozen: Bool) throws(SystemError) {
    try handle.writeText(isFrozen ? "1" : "0", to: CgroupFile.freeze)
  }

  /// Kills every process in the group, forks in flight included.
  public func kill() throws(SystemError) { try handle.writeText("1", to: CgroupFile.kill) }

  /// By the file as it is opened now.
  func isPopulatedNow() throws(SystemError) -> Bool {
    try CgroupFile.value(CgroupFile.populated, in: handle, CgroupFile.events) != 0
  }
}

/// A file of a group that is read more than once, or when there is no time to open it.
struct CgroupCounter {
  private let file: Descriptor
  private let name: String

  init(_ name: String, _ file: Descriptor) {
    self.file = file
    self.name = name
  }

  init(_ name: String, in directory: Descriptor) throws(SystemError) {
    self.init(name, try Descriptor.open(name, O_RDONLY, at: directory))
  }

  /// All that these files say fits by far.
  private static let longest = 4_096

  private func text() throws(SystemError) -> String {
    var buffer = [UInt8](repeating: 0, count: CgroupCounter.longest)
    let count = try SystemError.check(pread(file.raw, &buffer, buffer.count, 0), "read \(name)")
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// The number behind `key`, where the file has `key value` lines.
  func value(_ key: String) throws(SystemError) -> UInt64 {
    guard let value = CgroupFile.value(key, in: try text()) else {
      throw SystemError("\(name) has no \(key)", errno: 0)
    }
    return value
  }

  /// The number that is the whole content.
  func number() throws(SystemError) -> UInt64 {
    guard let number = CgroupFile.number(in: try text()) else { throw SystemError("\(name) holds no number", errno: 0) }
    return number
  }
}

/// Files of cgroup directories.
enum CgroupFile {
  static let processes = "cgroup.procs"
  static let tasks = "tasks"
  static let kill = "cgroup.kill"
  static let freeze = "cgroup.freeze"
  static let events = "cgroup.events"
  static let populated = "populated"
  static let controllers = "cgroup.controllers"
  static let subtree = "cgroup.subtree_control"
  static let pidsMax = "pids.max"
  static let pidsEvents = "pids.events"
  static let cpuStat = "cpu.stat"

  /// Paths by controller from a /proc/PID/cgroup, whose lines are `number:controllers:path`; the v2 one has the name "".
  static func groups(_ membership: String) -> [String: Substring] {
    var groups: [String: Substring] = [:]
    for line in membership.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      for controller in fields[1].split(separator: ",", omittingEmptySubsequences: false) {
        groups[String(controller)] = fields[2]
      }
    }
    return groups
  }

  /// The number behind `key` in a file of `key value` lines.
  static func value(_ key: String, in directory: Descriptor, _ file: String) throws(SystemError) -> UInt64 {
    guard let value = value(key, in: try directory.readText(file)) else {
      throw SystemError("\(file) has no \(key)", errno: 0)
    }
    return value
  }

  static func value(_ key: String, in text: String) -> UInt64? {
    for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
      let words = line.split(separator: UInt8(ascii: " ")).map { Substring($0) }
      if words.count == 2, words[0] == key { return UInt64(words[1]) }
    }
    return nil
  }

  /// The number that is the whole of a text.
  static func number(in text: String) -> UInt64? { UInt64(text.split(separator: "\n").first ?? "") }

  /// rmdir of an empty group; true when it is gone, false while it is busy.
  static func removeGroup(_ name: String, in directory: Descriptor) throws(SystemError) -> Bool {
    if unlinkat(directory.raw, name, AT_REMOVEDIR) == 0 { return true }
    switch errno {
    case ENOENT: return true
    case EBUSY: return false
    default: throw SystemError("rmdir cgroup \(name)", errno: errno)
    }
  }

  /// mkdir and open of a group that must not exist yet.
  static func makeGroup(_ name: String, in directory: Descriptor) throws(SystemError) -> Descriptor {
    try SystemError.check(mkdirat(directory.raw, name, 0o755), "mkdir cgroup \(name)")
    return try Descriptor.open(name, O_RDONLY | O_DIRECTORY, at: directory)
  }
}
