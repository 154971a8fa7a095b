import Glibc

/// One v2 group that carries every limit and kills as one when memory runs out.
final class UnifiedCgroup: CellCgroup {
  let handle: Descriptor
  let outOfMemory: Descriptor? = nil
  private let parent: Descriptor
  private let name: String

  init(name: String, parent: Descriptor) throws(SystemError) {
    self.name = name
    self.parent = parent
    handle = try CgroupFile.makeGroup(name, in: parent)
  }

  func apply(_ limits: CgroupLimits) throws(SystemError) {
    try handle.writeText("\(limits.memoryBytes)", to: "memory.max")
    // The file is absent where the kernel cannot swap.
    if faccessat(handle.raw, "memory.swap.max", F_OK, 0) == 0 { try handle.writeText("0", to: "memory.swap.max") }
    try handle.writeText("1", to: "memory.oom.group")
    try handle.writeText("\(limits.pids)", to: CgroupFile.pidsMax)
    try handle.writeText(
      "\(limits.cpuQuotaMicroseconds) \(CgroupLimits.cpuPeriodMicroseconds)", to: "cpu.max")
  }

  var entrance: CgroupEntrance { CgroupEntrance(handle: handle, others: []) }

  func holds(_ membership: String) -> Bool { Self.names(name, for: [""], in: membership) }

  func counters() throws(SystemError) -> CgroupCounters {
    CgroupCounters(
      oomKills: try CgroupFile.value("oom_kill", in: handle, "memory.events"),
      pidsLimitHits: try CgroupFile.value("max", in: handle, CgroupFile.pidsEvents),
      cpuMicroseconds: try CgroupFile.value("usage_usec", in: handle, CgroupFile.cpuStat),
      // memory.peak came with Linux 5.19.
      memoryPeakBytes: (try? handle.readText("memory.peak")).flatMap(CgroupFile.number))
  }

  func isPopulated() throws(SystemError) -> Bool { try isPopulatedNow() }

  func remove() throws(SystemError) -> Bool { try CgroupFile.removeGroup(name, in: parent) }
}
