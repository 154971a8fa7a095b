import Glibc
import Kernel
import WardenProtocol

// The warden's part in a cell's beginning: groups with their limits, the two processes, and the look from outside at what
// the kernel really gave them.

extension Cell {
  /// Makes groups of the shape's limits, an init in fresh namespaces, and the job's process in both.
  static func build(
    serial: UInt64, shape: CellShape, user: UInt32, host: Host, patienceMilliseconds: Int64
  ) throws(Refusal) -> Cell {
    let group = try requiring("cgroup") { () throws(SystemError) in try host.cgroups.makeCell("cell-\(serial)") }
    var disk: OutputDisk.Begun?
    do throws(Refusal) {
      // First: it takes longest, and has no descriptor of what comes after.
      disk = try OutputDisk.begin(shape: shape, user: user, host: host)
      try requiring("cgroup.limits") { () throws(SystemError) in
        try group.apply(
          CgroupLimits(memoryBytes: shape.memoryBytes, pids: shape.pids, cpuMillis: shape.cpuMillis))
      }
      let gate = try requiring("cell") { () throws(SystemError) in try Descriptor.pipe() }
      let cell = CellInit(user: host.users.initUser, filter: host.initFilter)
      let initProcess = try requiring(
        "namespaces", fix: "allow namespaces: sysctl user.max_*_namespaces; CAP_SYS_ADMIN in a container"
      ) { () throws(SystemError) in
        try ProcessHandle.clone(namespaces: .begun) { cell.run(gate: gate.read, warden: host.own, null: host.null) }
      }
      do throws(Refusal) {
        // After the init was made: it would keep an end open that tells by closing.
        let (mine, theirs) = try requiring("cell") { () throws(SystemError) in try PacketSocket.pair() }
        let job = JobProcess(
          user: user, group: host.mode.group(of: user), mode: host.mode, filter: host.filter, landlock: host.landlock,
          shape: shape, disk: disk?.socket)
        let main = try requiring("namespaces.pid") { () throws(SystemError) in
          try ProcessHandle.clone(beside: initProcess, cgroup: group.handle) {
            job.run(socket: theirs, initProcess: initProcess.descriptor, cgroup: group, null: host.null)
          }
        }
        try requiring("cell") { () throws(SystemError) in try mine.descriptor.setNonBlocking() }
        let made = Cell(
          serial: serial, shape: shape, group: group, initProcess: initProcess, main: main, socket: mine, user: user,
          deadline: Instant.now.advanced(milliseconds: patienceMilliseconds))
        made.diskMaker = disk?.maker
        return made
      } catch {
        try? initProcess.signal(SIGKILL)
        for _ in 0..<1_000 where (try? initProcess.reap()) == .some(nil) { usleep(1_000) }
        throw error
      }
    } catch {
      disk?.abandon()
      _ = try? group.remove()
      throw error
    }
  }

  /// Checks that the job's process is under every limit and in namespaces of its own, and keeps a way into its mount
  /// namespace. After `prepared`, before any order.
  func verify(host: Host, own: NamespaceIdentities) throws(Refusal) {
    let process = "\(main.processID)"
    let membership = try requiring("cgroup.attach") { () throws(SystemError) in
      try host.proc.readText("\(process)/cgroup")
    }
    guard group.holds(membership) else {
      throw Refusal(control: "cgroup.attach", stage: "the cell is not in its own groups")
    }
    let identities = try requiring("namespaces") { () throws(SystemError) in
      try NamespaceIdentities.read(process, proc: host.proc)
    }
    let expected = host.cellNamespaces
    namespaces = identities.differing(from: host.hostNamespaces, among: expected)
    for name in expected.names where !namespaces.contains(name) {
      throw Refusal(control: "namespaces.\(name)", stage: "the cell shares it with the host")
    }
    let fromWarden = identities.differing(from: own, among: .cell)
    for name in Namespaces.cell.names where !fromWarden.contains(name) {
      throw Refusal(control: "namespaces.\(name)", stage: "the cell shares it with the warden")
    }
    mounts = try requiring("namespaces.mnt") { () throws(SystemError) in
      try Descriptor.open("\(process)/ns/mnt", O_RDONLY, at: host.proc)
    }
  }
}

/// Into a cell's mount namespace, for the mounts that an order brings. Nothing of a job's has run there yet, so the paths
/// are the template's.
struct CellMounts {
  var cell: Descriptor
  var own: Descriptor
  var staging: Descriptor

  /// Shows the stage's directories, read-only.
  func attach(stage: String) throws(Refusal) {
    try requiring("stage") { () throws(SystemError) in
      // A mount can be copied only from one's own namespace.
      let staged = [try staged("\(stage)/input"), try staged("\(stage)/job")]
      try Namespaces.mount.enter(cell)
      defer { comeBack() }
      for (mount, path) in zip(staged, [Template.Path.input, Template.Path.job]) { try mount.attach(at: path) }
    }
  }

  private func staged(_ path: String) throws(SystemError) -> DetachedMount {
    let directory = try staging.open(beneath: path, O_RDONLY | O_DIRECTORY)
    let mount = try DetachedMount.clone(".", at: directory, recursive: false)
    try mount.restrict([.readOnly, .noSetuid, .noDevices, .noExecution])
    return mount
  }

  /// A warden that stayed in a cell's mounts would build the next one upon them.
  private func comeBack() {
    do { try Namespaces.mount.enter(own) } catch {
      warn("\(error)")
      exit(1)
    }
  }
}
