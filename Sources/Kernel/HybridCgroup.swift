import CLinux
import Glibc

// Theory of operation
//
// The v2 group holds the cell's processes from their clone on and can kill them; it has no controllers. Three v1
// groups of the same name carry memory, pids and cpu. v1 has no memory.oom.group, so the kernel ends one process and
// the warden, woken by the eventfd registered here, kills the rest.
//
// A process enters the v1 groups by itself, with "0" to `tasks`, while it has one thread. Moved from outside, by its number
// to cgroup.procs, it costs 4 to 8 ms: the kernel then waits for every processor before it takes the lock that keeps
// thread groups still. A thread that moves itself needs no such lock (since Linux 5.6).

/// A v2 group as the handle, and one v1 group for each controller.
final class HybridCgroup: CellCgroup {
  let handle: Descriptor
  private(set) var outOfMemory: Descriptor?
  private let name: String
  private let parents: HybridParents
  private let memory: Descriptor
  private let pids: Descriptor
  private let cpu: Descriptor
  private var counted: Counted?

  private struct Counted {
    var members: CgroupCounter
    var oom: CgroupCounter
    var peak: CgroupCounter
    var forks: CgroupCounter
    var time: CgroupCounter
  }

  struct HybridParents {
    var handle: Descriptor
    var memory: Descriptor
    var pids: Descriptor
    var cpu: Descriptor

    /// One hierarchy may carry several controllers and then appears several times here.
    var controllers: [Descriptor] { [memory, pids, cpu] }

    /// What groups beneath take over when they are made.
    func prepare() throws(SystemError) { try memory.writeText("0", to: "memory.swappiness") }
  }

  init(name: String, parents: HybridParents) throws(SystemError) {
    self.name = name
    self.parents = parents
    // First: a name that exists is somebody's, and must be refused before anything of it is touched.
    handle = try CgroupFile.makeGroup(name, in: parents.handle)
    do throws(SystemError) {
      for parent in parents.controllers where mkdirat(parent.raw, name, 0o755) != 0 && errno != EEXIST {
        throw SystemError("mkdir cgroup \(name)", errno: errno)
      }
      let flags = O_RDONLY | O_DIRECTORY
      memory = try Descriptor.open(name, flags, at: parents.memory)
      pids = try Descriptor.open(name, flags, at: parents.pids)
      cpu = try Descriptor.open(name, flags, at: parents.cpu)
      let control = try Descriptor.open(HybridCgroup.oomControl, O_RDONLY, at: memory)
      let event = Descriptor(owning: try SystemError.check(cordon_eventfd(), "eventfd"))
      try memory.writeText("\(event.raw) \(control.raw)", to: "cgroup.event_control")
      outOfMemory = event
      counted = Counted(
        members: try CgroupCounter(CgroupFile.events, in: handle),
        oom: CgroupCounter(HybridCgroup.oomControl, control),
        peak: try CgroupCounter("memory.max_usage_in_bytes", in: memory),
        forks: try CgroupCounter(CgroupFile.pidsEvents, in: pids),
        // Every v2 group accounts processor time, with or without a controller.
        time: try CgroupCounter(CgroupFile.cpuStat, in: handle))
    } catch {
      for parent in parents.controllers + [parents.handle] { unlinkat(parent.raw, name, AT_REMOVEDIR) }
      throw error
    }
  }

  func apply(_ limits: CgroupLimits) throws(SystemError) {
    try memory.writeText("\(limits.memoryBytes)", to: "memory.limit_in_bytes")
    // Memory and swap together may not exceed memory alone. Absent where the kernel does not account swap.
    try memory.writeText("\(limits.memoryBytes)", toOptional: HybridCgroup.swapLimit)
    // TCP buffers have a counter of their own, which counts only once it has a limit. Most filters refuse such sockets; there
    // this bounds one that comes in by another way, and may be absent, in a kernel without IP.
    if limits.countsSockets {
      try memory.writeText("\(limits.socketBytes)", to: HybridCgroup.socketLimit)
    } else {
      try memory.writeText("\(limits.socketBytes)", toOptional: HybridCgroup.socketLimit)
    }
    try pids.writeText("\(limits.pids)", to: CgroupFile.pidsMax)
    // The period is a new group's own.
    try cpu.writeText("\(limits.cpuQuotaMicroseconds)", to: "cpu.cfs_quota_us")
  }

  var entrance: CgroupEntrance { CgroupEntrance(handle: handle, others: [memory, pids, cpu]) }

  func holds(_ membership: String) -> Bool {
    Self.names(name, for: [""] + CgroupLayout.required, in: membership)
  }

  func counters() throws(SystemError) -> CgroupCounters {
    guard let counted else { throw SystemError("count in a group that is removed", errno: EINVAL) }
    return CgroupCounters(
      oomKills: try counted.oom.value("oom_kill"), pidsLimitHits: try counted.forks.value("max"),
      cpuMicroseconds: try counted.time.value("usage_usec"), memoryPeakBytes: try counted.peak.number())
  }

  func isPopulated() throws(SystemError) -> Bool {
    guard let counted else { return try isPopulatedNow() }
    return try counted.members.value(CgroupFile.populated) != 0
  }

  func remove() throws(SystemError) -> Bool {
    if try isPopulated() { return false }
    // A file that is open when its directory goes leaves the kernel's memory of the whole directory behind, until memory
    // runs short: 5 KiB a cell.
    counted = nil
    outOfMemory = nil
    // The handle last: as long as it is there, whatever is left can be found and killed.
    for parent in parents.controllers + [parents.handle] where try !CgroupFile.removeGroup(name, in: parent) {
      return false
    }
    return true
  }

  private static let socketLimit = "memory.kmem.tcp.limit_in_bytes"
  private static let swapLimit = "memory.memsw.limit_in_bytes"
  private static let oomControl = "memory.oom_control"
}
