import Glibc
import Testing

@testable import Sandbox

/// Hosts that none of the tests runs on, as their files show them.
@Suite("KS-28, OP-01: what stands in the way of cells is recognised, with the fix") struct HostObstaclesTests {
  private static let unified = "30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"

  /// A host with a delegated group, where an ordinary user can make cells.
  static func host(user: uid_t = 1_000, refusal: Int32? = EPERM) -> HostFacts {
    HostFacts(
      user: user,
      files: [
        .maximumUserNamespaces: "96365\n", .appArmorRestriction: "0\n", .unprivilegedUserNamespaces: "1\n",
        .status: "Name:\tcordon\nCapEff:\t0000000000000000\nSeccomp:\t0\n",
        .mountinfo: "22 27 0:21 / /proc rw,nosuid - proc proc rw\n\(unified)\n",
        .groups: "0::/user.slice/user-1000.slice/user@1000.service/app.slice\n",
      ],
      basePath: "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice", baseIsWritable: true,
      offeredControllers: ["cpu", "memory", "pids"], refusal: refusal)
  }

  private static func controls(_ facts: HostFacts) -> [String] { HostObstacles.recognise(facts).map(\.control) }

  @Test func aHostWithoutObstaclesShowsNone() {
    #expect(HostObstacles.recognise(Self.host()) == [])
    #expect(HostObstacles.recognise(Self.host(user: 0)) == [])
  }

  @Test func everyObstacleHasAFixAndDoesNotHold() {
    for (facts, _) in Self.obstructed {
      for finding in HostObstacles.recognise(facts) {
        #expect(!finding.holds && finding.fix?.isEmpty == false && !finding.detail.contains("\n"), "\(finding)")
      }
    }
  }

  @Test("each obstacle alone", arguments: 0..<obstructed.count)
  func each(index: Int) {
    let (facts, expected) = Self.obstructed[index]
    let found = HostObstacles.recognise(facts)
    #expect(found.count == 1, "\(found)")
    let line = found.first.map { "\($0.control) | \($0.detail) | \($0.fix ?? "")" }
    #expect(line?.contains(all: expected) == true, "\(found)")
  }

  /// One thing wrong each, and words that its line must have.
  static let obstructed: [(HostFacts, [String])] = [
    (
      changed { $0.files[.appArmorRestriction] = "1\n" },
      ["host.apparmor", "apparmor_restrict_unprivileged_userns is 1", "userns,", "=0"]
    ),
    (
      changed {
        $0.files[.appArmorRestriction] = "1\n"
        $0.files[.securityLabel] = "unprivileged_userns (enforce)\n"
      }, ["host.apparmor", "'unprivileged_userns (enforce)'"]
    ),
    (
      changed(refusal: ENOSPC) { $0.files[.maximumUserNamespaces] = "0\n" },
      ["host.user_namespaces", "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="]
    ),
    (
      changed { $0.files[.unprivilegedUserNamespaces] = "0\n" },
      ["host.user_namespaces", "unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"]
    ),
    (
      changed(refusal: EACCES) { $0.baseIsWritable = false },
      ["host.cgroup.delegation", "app.slice cannot be written by uid 1000", "Delegate="]
    ),
    (
      changed(refusal: ENOENT) { $0.offeredControllers = ["memory", "pids"] },
      ["host.cgroup.controllers", "controllers cpu |", "Delegate="]
    ),
    (
      changed(refusal: ENOENT) { $0.files[.mountinfo] = "22 27 0:21 / /proc rw - proc proc rw\n" },
      ["host.cgroup", "no cgroup filesystem", "mount -t cgroup2"]
    ),
    (
      changed(refusal: EROFS) { $0.files[.mountinfo] = unified.replacing(" rw,nosuid -", with: " ro,nosuid -") },
      ["host.cgroup", "/sys/fs/cgroup is mounted read-only", "remount,rw"]
    ),
    (
      changed(refusal: EROFS) {
        $0.containerMarker = "/.dockerenv"
        $0.files[.mountinfo] = unified.replacing(" rw,nosuid -", with: " ro,nosuid -")
      }, ["host.cgroup", "read-only", "--cgroupns=private"]
    ),
    (
      changed(refusal: ENOENT) {
        $0.containerMarker = "/run/.containerenv"
        $0.files[.mountinfo] = ""
      }, ["host.cgroup", "no cgroup filesystem", "--cgroupns=private"]
    ),
    (
      changed {
        $0.containerMarker = "/.dockerenv"
        $0.files[.mountinfo]! += "40 22 0:5 /null /proc/kcore rw - tmpfs tmpfs rw\n"
        $0.files[.mountinfo]! += "41 22 0:21 /sys /proc/sys ro - proc proc rw\n"
      }, ["host.container.proc", "/proc/kcore, /proc/sys", "systempaths=unconfined"]
    ),
    (
      changed {
        $0.containerMarker = "/.dockerenv"
        $0.files[.status] = "Seccomp:\t2\n"
      }, ["host.container.seccomp", "/.dockerenv", "seccomp=unconfined"]
    ),
    (
      changed(user: 0) {
        $0.containerMarker = "/run/.containerenv"
        $0.files[.status] = "CapEff:\t00000000a80425fb\nSeccomp:\t0\n"
      }, ["host.container.capabilities", "CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"]
    ),
    (
      changed(refusal: ENOENT) {
        $0.containerMarker = "/.dockerenv"
        $0.files[.mountinfo] = unified.replacing(" / /sys", with: " /../.. /sys")
      }, ["host.container.cgroup", "from /../..", "--cgroupns=private"]
    ),
  ]

  private static func changed(
    user: uid_t = 1_000, refusal: Int32 = EPERM, _ change: (inout HostFacts) -> Void
  ) -> HostFacts {
    var facts = host(user: user, refusal: refusal)
    change(&facts)
    return facts
  }

  @Test("a container that refuses everything at once: every reason is named")
  func dockerByDefault() {
    var facts = Self.host()
    facts.containerMarker = "/.dockerenv"
    facts.files[.appArmorRestriction] = "1\n"
    facts.files[.securityLabel] = "docker-default (enforce)\n"
    facts.files[.status] = "CapEff:\t0000000000000000\nSeccomp:\t2\n"
    facts.files[.mountinfo] =
      "22 27 0:21 / /proc rw - proc proc rw\n40 22 0:5 /null /proc/kcore rw - tmpfs tmpfs rw\n"
      + Self.unified.replacing(" rw,nosuid -", with: " ro,nosuid -")
    #expect(
      Self.controls(facts) == ["host.apparmor", "host.container.proc", "host.container.seccomp", "host.cgroup"])
  }

  @Test("what does not concern root, or is not in the way here, is not named")
  func beside() {
    var root = Self.host(user: 0, refusal: ENOENT)
    root.files[.appArmorRestriction] = "1\n"
    root.files[.maximumUserNamespaces] = "0\n"
    root.containerMarker = "/.dockerenv"
    root.files[.status] = "CapEff:\t000001ffffffffff\nSeccomp:\t2\n"
    #expect(Self.controls(root) == [])
    var hybrid = Self.host()
    hybrid.offeredControllers = []
    hybrid.files[.mountinfo] = Self.unified + "\n31 22 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    #expect(Self.controls(hybrid) == [])
    // A kernel without these files restricts nothing by them.
    var older = Self.host()
    for file in [HostFacts.File.appArmorRestriction, .unprivilegedUserNamespaces] { older.files[file] = nil }
    #expect(Self.controls(older) == [])
  }

  @Test("the facts of this host are read, and nothing of it is taken for what it is not")
  func gathered() {
    let refusal = SandboxError(stage: "host", message: "namespaces.user: unshare", errno: EPERM)
    let facts = HostFacts.gather(cgroupBase: nil, refusal: refusal)
    #expect(facts.user == geteuid() && facts.refusal == EPERM && facts.holdsSystemAdministration)
    #expect(facts.status("Seccomp") == "0" && facts.mounts.contains { $0.kind == "cgroup2" && !$0.isReadOnly })
    #expect(facts.baseIsWritable)
    #expect(HostFacts.gather(cgroupBase: "a/b", refusal: refusal).basePath.hasSuffix("/a/b"))
    #expect(HostObstacles.recognise(facts) == [], "the suites run in cells, so nothing is in their way")
  }
}

extension String {
  fileprivate func contains(all parts: [String]) -> Bool { parts.allSatisfy { contains($0) } }
}
