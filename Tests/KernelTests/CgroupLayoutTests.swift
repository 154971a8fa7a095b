import Testing

@testable import Kernel

private let unified = """
  22 27 0:21 / /proc rw,relatime - proc proc rw
  30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
  """

private let hybrid = """
  31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
  32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 master:2 - cgroup cgroup rw,cpu,cpuacct
  35 31 0:32 / /sys/fs/cgroup/my\\040memory rw,relatime - cgroup cgroup rw,memory
  39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
  40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
  41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
  """

@Suite struct CgroupLayoutTests {
  private func choose(_ mountinfo: String, controllers: String) throws -> CgroupLayout {
    try CgroupLayout.choose(mountinfo: mountinfo) { _ throws(SystemError) in controllers }
  }

  @Test func aUnifiedHost() throws {
    let layout = try choose(unified, controllers: "cpuset cpu io memory hugetlb pids rdma misc\n")
    #expect(layout == .unified(mount: "/sys/fs/cgroup"))
  }

  @Test func aHybridHost() throws {
    #expect(
      try choose(hybrid, controllers: "\n")
        == .hybrid(
          mount: "/sys/fs/cgroup/unified",
          controllers: [
            "cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/my memory", "pids": "/sys/fs/cgroup/pids",
          ]))
  }

  @Test func aLegacyHostCannotKill() {
    let legacy = hybrid.split(separator: "\n").filter { !$0.contains("cgroup2") }.joined(separator: "\n")
    let error = #expect(throws: Unavailable.self) { try choose(legacy, controllers: "") }
    #expect(error?.control == "cgroup.kill")
    #expect(error?.fix.isEmpty == false)
  }

  @Test(arguments: ["memory", "pids", "cpu"])
  func aMissingControllerIsNamed(_ controller: String) {
    let left = ["memory", "pids", "cpu"].filter { $0 != controller }.joined(separator: " ")
    let error = #expect(throws: Unavailable.self) { try choose(unified, controllers: left) }
    #expect(error?.stage.contains(controller) == true)
  }

  @Test func junkIsNoMount() {
    for line in ["", "a b c", "1 2 3 4 5 6 7 8", "1 2 0:3 / /x rw - cgroup2", "- - - - - - - -"] {
      #expect(CgroupMount(line: Substring(line)) == nil, "\(line)")
    }
  }

  @Test func escapesAreUndone() {
    #expect(CgroupMount.unescape("/a\\040b\\011\\134c\\0") == "/a b\t\\c\\0")
  }

  @Test func instanceNamesRoundTrip() {
    let instance = CgroupInstance(namespace: 4_026_531_836, owner: .init(processID: 77, startTicks: 123_456))
    #expect(CgroupInstance(name: instance.name) == instance)
    for name in ["", "warden", "warden-1-2", "warden-1-2-3-4", "warden-1-02-3", "warden--1-2-3", "cell-1-2-3"] {
      #expect(CgroupInstance(name: name) == nil, "\(name)")
    }
  }

  @Test func countersAreFoundByKey() {
    let text = "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n"
    #expect(CgroupFile.value("oom_kill", in: text) == 4)
    #expect(CgroupFile.value("oom", in: text) == 3)
    #expect(CgroupFile.value("oo", in: text) == nil)
  }

  @Test func startTicksSurviveAnyName() {
    let fields = (3...21).map { "\($0)" }.joined(separator: " ")
    #expect(ProcessIdentity.startTicks(stat: "7 (a) b) (c) \(fields) 4242 23 24\n") == 4_242)
    #expect(ProcessIdentity.startTicks(stat: "7 (a") == nil)
    #expect(ProcessIdentity.startTicks(stat: "7 (a) S 1") == nil)
  }

  @Test func aNameIsBetweenTheOutermostParentheses() {
    #expect(ProcessIdentity.name(stat: "7 (a) b) (c) S 1 2\n") == "a) b) (c")
    #expect(ProcessIdentity.name(stat: "7 () S 1") == "")
    for broken in ["", "7 S 1", "7 (a", "7 a)", ")("] { #expect(ProcessIdentity.name(stat: broken) == nil) }
  }

  @Test func waitStatusIsRead() {
    #expect(WaitStatus(raw: 0) == .exited(0))
    #expect(WaitStatus(raw: 255 << 8) == .exited(255))
    #expect(WaitStatus(raw: 6 | 0x80) == .signaled(6))
    #expect(WaitStatus(raw: 19 << 8 | 0x7F) == nil)
  }
}
