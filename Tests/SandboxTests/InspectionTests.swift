import Testing

@testable import Sandbox

/// The self-test must be able to fail: a good transcript, and for each control one in which it is missing.
@Suite("Inspection") struct InspectionTests {
  static let good = """
    @@ fd
    total 0
    lr-x------ 1 200000 200000 64 Jan  1 00:00 0 -> /dev/null
    l-wx------ 1 200000 200000 64 Jan  1 00:00 1 -> pipe:[1]
    l-wx------ 1 200000 200000 64 Jan  1 00:00 2 -> pipe:[2]
    lr-x------ 1 200000 200000 64 Jan  1 00:00 3 -> /proc/4/fd
    @@ status
    Uid:\t200000\t200000\t200000\t200000
    Gid:\t200000\t200000\t200000\t200000
    CapInh:\t0000000000000000
    CapPrm:\t0000000000000000
    CapEff:\t0000000000000000
    CapBnd:\t0000000000000000
    CapAmb:\t0000000000000000
    NoNewPrivs:\t1
    Seccomp:\t2
    @@ mountinfo
    1 0 0:1 / / ro,nosuid,nodev - tmpfs tmpfs ro
    2 1 8:1 /usr /usr ro,nosuid,nodev - ext4 /dev/sda ro
    3 1 0:2 / /proc rw,nosuid,nodev,noexec - proc proc rw
    4 1 0:3 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw
    5 1 8:1 /i /input ro,nosuid,nodev,noexec - ext4 /dev/sda rw
    6 1 8:1 /j /job ro,nosuid,nodev - ext4 /dev/sda rw
    7 1 0:4 / /output rw,nosuid,nodev,noexec - tmpfs tmpfs rw
    8 1 0:5 / /result rw,nosuid,nodev,noexec - tmpfs tmpfs rw
    9 1 0:6 /null /dev/null ro,nosuid,noexec - devtmpfs devtmpfs rw
    @@ interfaces
    Inter-|   Receive
     face |bytes
        lo:       0
    @@ route
    Iface\tDestination
    @@ route6
    00000000000000000000000000000001 80 00000000000000000000000000000000 00 0 0 0 0 80200001 lo
    @@ processes
    1
    2
    @@ sockets
    @@ namespaces
    cgroup cgroup:[11]
    ipc ipc:[12]
    mnt mnt:[13]
    net net:[14]
    pid pid:[15]
    user user:[6]
    uts uts:[17]
    @@ try write:/output/probe
    done
    @@ try write:/tmp/probe
    done
    @@ try write://probe
    no 1
    @@ try write:/usr/probe
    no 1
    @@ try write:/etc/probe
    no 1
    @@ try write:/input/probe
    no 1
    @@ try write:/job/probe
    no 1
    @@ try write:/proc/probe
    no 1
    @@ try write:/dev/probe
    no 1
    @@ try write:/input/probe.new
    no 1
    @@ try overwrite:/input/probe
    no 1
    @@ try read:/input/probe
    done
    @@ try unshare
    no 1
    @@ try mount
    no 32
    @@ try connect
    no 1
    @@ try docker
    no 1
    @@ try postgresql
    no 1
    @@ end

    """

  static let own = [
    "cgroup": "cgroup:[1]", "ipc": "ipc:[2]", "mnt": "mnt:[3]", "net": "net:[4]", "pid": "pid:[5]", "user": "user:[6]",
    "uts": "uts:[7]",
  ]

  static func missing(_ transcript: String, uid: UInt32? = 200_000) -> [String] {
    Inspection(transcript: transcript)
      .findings(uid: uid, namespaces: ["mnt", "pid", "net"], own: own).filter { !$0.holds }.map(\.control)
  }

  @Test func aConfinedCellPasses() {
    #expect(Self.missing(Self.good) == [])
    #expect(
      Inspection(transcript: Self.good).findings(uid: nil, namespaces: [], own: Self.own).allSatisfy { $0.fix == nil })
  }

  @Test(arguments: [
    ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff", "capabilities"),
    ("CapAmb:\t0000000000000000\n", "", "capabilities"),
    ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no_new_privs"), ("Seccomp:\t2", "Seccomp:\t0", "seccomp"),
    ("Seccomp:\t2\n", "", "seccomp"), ("Uid:\t200000", "Uid:\t0", "uid"),
    ("Uid:\t200000\t200000\t200000\t200000", "Uid:\t7\t7\t7\t7", "uid"), ("Gid:\t200000", "Gid:\t0", "gid"),
    ("net:[14]", "net:[4]", "namespaces"), ("mnt mnt:[13]\n", "", "namespaces"),
    ("/usr /usr ro,", "/usr /usr rw,", "mounts"), ("/input ro,nosuid,nodev,noexec", "/input ro,nosuid,nodev", "mounts"),
    ("/dev/null ro,", "/dev/null rw,", "mounts"),
    ("@@ interfaces", "10 1 8:1 / /var/run rw - ext4 /dev/sda rw\n@@ interfaces", "mounts"),
    ("    8 1 0:5", "", "mounts"), ("@@ try write:/usr/probe\nno 1", "@@ try write:/usr/probe\ndone", "writable"),
    ("@@ try write:/output/probe\ndone", "@@ try write:/output/probe\nno 1", "writable"),
    ("@@ try overwrite:/input/probe\nno 1", "@@ try overwrite:/input/probe\ndone", "inputs"),
    ("@@ try read:/input/probe\ndone", "@@ try read:/input/probe\nno 1", "inputs"),
    ("    lo:       0", "    lo:       0\n  eth0: 5", "network.interfaces"),
    ("Iface\tDestination", "Iface\tDestination\neth0\t00000000", "network.routes"),
    ("80200001 lo", "80200001 eth0", "network.routes"),
    ("@@ try connect\nno 1", "@@ try connect\ndone", "network.routes"),
    ("@@ processes\n1", "@@ processes\n1\n3\n4\n5\n6\n7\n8\n9\n10\n11", "processes"),
    ("1\n2\n@@ sockets", "@@ sockets", "processes"),
    ("3 -> /proc/4/fd", "3 -> socket:[9]", "descriptors"), ("@@ sockets", "@@ sockets\n/run/x.sock", "sockets"),
    ("@@ try docker\nno 1", "@@ try docker\ndone", "sockets"),
    ("@@ try unshare\nno 1", "@@ try unshare\ndone", "system_calls"),
    ("@@ try mount\nno 32", "@@ try mount\nno 127", "system_calls"), ("@@ end", "", "selftest"),
  ])
  func eachControlCanFail(from: String, to: String, control: String) {
    let doctored = Self.good.replacing(
      from.trimmingPrefix(while: { $0 == " " }), with: to.trimmingPrefix(while: { $0 == " " }))
    #expect(doctored != Self.good, "the transcript has \(from)")
    #expect(Self.missing(doctored) == [control])
  }
}
