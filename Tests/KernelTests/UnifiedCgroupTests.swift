import Glibc
import Testing

@testable import Kernel

/// What is written to, and read from, the files of a v2 group; a plain directory stands in for the kernel's, so this
/// holds on hosts of either kind. That the kernel acts on it is shown by cells on a unified host.
@Suite struct UnifiedCgroupTests {
  private let scratch: Scratch
  private let group: UnifiedCgroup
  private let files: Descriptor

  init() throws {
    scratch = try Scratch()
    group = try UnifiedCgroup(name: "cell", parent: scratch.directory)
    files = group.handle
  }

  private func provide(_ names: [String: String]) throws {
    for (name, text) in names {
      try Descriptor.open(name, O_WRONLY | O_CREAT, mode: 0o600, at: files).writeAll(Array(text.utf8))
    }
  }

  private func clear() throws {
    for name in try files.entries() { unlinkat(files.raw, name, 0) }
  }

  @Test func limitsAreWritten() throws {
    defer { try? clear() }
    try provide([
      "memory.max": "", "memory.swap.max": "", "memory.oom.group": "", "pids.max": "", "cpu.max": "",
    ])
    try group.apply(CgroupLimits(memoryBytes: 67_108_864, pids: 33, cpuMillis: 1_500))
    let expected = [
      "memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "33",
      "cpu.max": "150000 100000",
    ]
    for (name, text) in expected { #expect(try files.readText(name) == text) }
  }

  @Test(arguments: ["memory.max", "memory.oom.group", "pids.max", "cpu.max"])
  func aMissingControlIsAnError(_ missing: String) throws {
    defer { try? clear() }
    try provide(["memory.max": "", "memory.oom.group": "", "pids.max": "", "cpu.max": ""])
    unlinkat(files.raw, missing, 0)
    let error = #expect(throws: SystemError.self) {
      try group.apply(CgroupLimits(memoryBytes: 1 << 20, pids: 2, cpuMillis: 100))
    }
    #expect(error?.errno == ENOENT)
    #expect(error?.stage.contains(missing) == true)
  }

  @Test func countersAreRead() throws {
    defer { try? clear() }
    let counts = [
      "memory.events": "low 0\nmax 3\noom 2\noom_kill 5\noom_group_kill 1\n", "pids.events": "max 7\n",
      "cpu.stat": "usage_usec 1234\nuser_usec 1000\n",
    ]
    try provide(counts)
    let withoutPeak = try group.counters()
    #expect(
      withoutPeak == CgroupCounters(oomKills: 5, pidsLimitHits: 7, cpuMicroseconds: 1_234, memoryPeakBytes: nil))
    try provide(["memory.peak": "4096\n"])
    #expect(try group.counters().memoryPeakBytes == 4_096)
  }
}
