import Foundation
import Glibc
import Testing

@testable import Kernel

// These make real groups beneath a base of their own and need root; elsewhere they fail, as the product would.

@Suite(.serialized) struct CgroupAreaTests {
  private let proc: Descriptor
  private let layout: CgroupLayout
  private let base = "cordon-kernel-tests-\(getpid())"

  init() throws {
    proc = try Descriptor.open("/proc", O_RDONLY | O_DIRECTORY)
    layout = try CgroupLayout.choose(mountinfo: proc.readText("self/mountinfo")) { mount throws(SystemError) in
      try Descriptor.open(mount, O_RDONLY | O_DIRECTORY).readText(CgroupFile.controllers)
    }
  }

  private var mounts: [String] {
    switch layout {
    case .unified(let mount): [mount]
    case .hybrid(let mount, let controllers): [mount] + Set(controllers.values)
    }
  }

  private func withArea(_ body: (CgroupArea) throws -> Void) throws {
    let area = try CgroupArea(layout: layout, base: base, proc: proc)
    defer {
      area.remove(patience: 2_000)
      for mount in mounts { rmdir("\(mount)/\(base)") }
    }
    try body(area)
  }

  private func spawn(_ arguments: [String]) throws -> pid_t {
    var pid = pid_t()
    let strings = arguments.map { strdup($0) } + [nil]
    defer { for string in strings { free(string) } }
    let status = posix_spawn(&pid, arguments[0], nil, nil, strings, nil)
    guard status == 0 else { throw SystemError("posix_spawn", errno: status) }
    return pid
  }

  /// From a thread that entered the groups: the child begins where its maker is.
  private func spawn(_ arguments: [String], in cell: any CellCgroup) throws -> pid_t {
    final class Outcome: @unchecked Sendable {
      var result: Result<pid_t, any Error>?
    }
    struct Entrance: @unchecked Sendable {
      var cell: any CellCgroup
    }
    let (outcome, entrance) = (Outcome(), Entrance(cell: cell))
    let thread = Thread {
      outcome.result = Result {
        try entrance.cell.entrance.enter()
        return try spawn(arguments)
      }
    }
    thread.start()
    while !thread.isFinished { usleep(1_000) }
    return try #require(outcome.result).get()
  }

  @Test func killingAGroupEmptiesItAndItsCountersStay() throws {
    try withArea { area in
      let cell = try area.makeCell("cell")
      try cell.apply(CgroupLimits(memoryBytes: 64 << 20, pids: 8, cpuMillis: 500))
      #expect(try !cell.isPopulated())
      let pid = try spawn(["/usr/bin/sleep", "1000"], in: cell)
      try cell.handle.writeText("\(pid)", to: CgroupFile.processes)
      let membership = try Descriptor.open("/proc/\(pid)/cgroup").readAll(limit: 1 << 16)
      #expect(cell.holds(String(decoding: membership, as: UTF8.self)))
      let own = try Descriptor.open("/proc/self/cgroup").readAll(limit: 1 << 16)
      #expect(!cell.holds(String(decoding: own, as: UTF8.self)), "control: this process is in none of its groups")
      #expect(try cell.isPopulated())
      #expect(try !cell.remove(), "a group with a process is busy")
      try cell.kill()
      var status: Int32 = 0
      #expect(waitpid(pid, &status, 0) == pid)
      #expect(WaitStatus(raw: status) == .signaled(SIGKILL))
      var left = 1_000
      while try cell.isPopulated(), left > 0 {
        left -= 1
        usleep(1_000)
      }
      #expect(try !cell.isPopulated())
      let counters = try cell.counters()
      #expect(counters.oomKills == 0 && counters.pidsLimitHits == 0)
      var isGone = false
      for _ in 0..<200 where !isGone {
        isGone = try cell.remove()
        usleep(5_000)
      }
      #expect(isGone)
    }
  }

  /// v1 counts TCP buffers only in groups that have a limit for them.
  @Test func socketsOfAHybridCellHaveALimit() throws {
    guard case .hybrid(_, let controllers) = layout else { return }
    try withArea { area in
      let cell = try area.makeCell("sockets")
      try cell.apply(CgroupLimits(memoryBytes: 64 << 20, pids: 8, cpuMillis: 500))
      let group = try Descriptor.open(
        "\(controllers["memory"]!)/\(base)/\(CgroupInstance.mine(proc: proc).name)/sockets", O_RDONLY | O_DIRECTORY)
      #expect(CgroupFile.number(in: try group.readText("memory.kmem.tcp.limit_in_bytes")) == 16 << 20)
      #expect(try cell.remove())
    }
  }

  /// Who saw a warden die clears its groups away without being one, and touches nobody else's.
  @Test func anOutsiderSweepsToo() throws {
    try withArea { _ in
      let mine = try CgroupInstance.mine(proc: proc)
      let stale = CgroupInstance(
        namespace: mine.namespace,
        owner: .init(processID: mine.owner.processID, startTicks: mine.owner.startTicks + 1))
      for mount in mounts { mkdir("\(mount)/\(base)/\(stale.name)", 0o755) }
      for mount in mounts { mkdir("\(mount)/\(base)/\(stale.name)/cell-1", 0o755) }
      CgroupArea.sweepAbandoned(base: base)
      for mount in mounts {
        #expect(access("\(mount)/\(base)/\(stale.name)", F_OK) != 0)
        #expect(access("\(mount)/\(base)/\(mine.name)", F_OK) == 0)
      }
      CgroupArea.sweepAbandoned(base: base + "-absent")
    }
  }

  @Test func aNameIsUsedOnce() throws {
    try withArea { area in
      let cell = try area.makeCell("twice")
      try cell.apply(CgroupLimits(memoryBytes: 64 << 20, pids: 8, cpuMillis: 500))
      #expect(throws: SystemError.self) { try area.makeCell("twice") }
      #expect(try cell.counters().oomKills == 0, "the first one is untouched")
      #expect(try cell.remove())
    }
  }

  /// A dead owner's groups go; a living owner's, and those of another pid namespace, stay.
  @Test func onlyStaleInstancesAreSwept() throws {
    let mine = try CgroupInstance.mine(proc: proc)
    let pid = try spawn(["/usr/bin/true"])
    var status: Int32 = 0
    #expect(waitpid(pid, &status, 0) == pid)
    let dead = CgroupInstance(namespace: mine.namespace, owner: .init(processID: pid, startTicks: 1))
    let reused = CgroupInstance(
      namespace: mine.namespace,
      owner: .init(processID: mine.owner.processID, startTicks: mine.owner.startTicks + 1))
    let parent = try #require(try ProcessIdentity.current(getppid(), proc: proc))
    let living = CgroupInstance(namespace: mine.namespace, owner: parent)
    let foreign = CgroupInstance(namespace: mine.namespace + 1, owner: dead.owner)
    let mount = try #require(mounts.first)
    defer {
      for instance in [dead, reused, living, foreign] {
        rmdir("\(mount)/\(base)/\(instance.name)/cell-1")
        rmdir("\(mount)/\(base)/\(instance.name)")
      }
      for mount in mounts { rmdir("\(mount)/\(base)") }
    }
    mkdir("\(mount)/\(base)", 0o755)
    for instance in [dead, reused, living, foreign] {
      try SystemError.check(mkdir("\(mount)/\(base)/\(instance.name)", 0o755), "mkdir")
      try SystemError.check(mkdir("\(mount)/\(base)/\(instance.name)/cell-1", 0o755), "mkdir")
    }
    let area = try CgroupArea(layout: layout, base: base, proc: proc)
    area.remove(patience: 1_000)
    func exists(_ instance: CgroupInstance) -> Bool { access("\(mount)/\(base)/\(instance.name)", F_OK) == 0 }
    #expect(!exists(dead) && !exists(reused))
    #expect(exists(living) && exists(foreign))
  }

  @Test func ownNamespacesDoNotDiffer() throws {
    let own = try NamespaceIdentities.read("self", proc: proc)
    #expect(own.differing(from: own, among: Namespaces.cell.union(.user)).isEmpty)
    let other = NamespaceIdentities(own.identities.mapValues { $0 + "0" })
    #expect(own.differing(from: other, among: .cell) == Namespaces.cell.names)
  }
}
