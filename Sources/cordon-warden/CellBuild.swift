import Glibc
import Kernel
import WardenProtocol

// The warden's part in a cell's beginning: groups with their limits, the two processes, and the look from outside at what
// the kernel really gave them.

extension Cell {
  /// Makes the job's process in the foundation's groups and namespaces; sets the shape's limits; and looks at what came of
  /// it. A program's process then waits for its order; an interpreter is on its way to that.
  ///
  /// - Parameter foundation: one that is there already.
  static func build(
    serial: UInt64, shape: CellShape, user: UInt32, host: Host, own: NamespaceIdentities,
    patienceMilliseconds: Int64, disk: DetachedMount? = nil, zygote: Zygote? = nil, foundation: CellFoundation
  ) throws(Refusal) -> Cell {
    let (initProcess, group) = (foundation.initProcess, foundation.group)
    do throws(Refusal) {
      let (main, areas, socket) = try makeJob(
        JobProcess(grounds: host.grounds, user: user, shape: shape, disk: disk), group.entrance, initProcess,
        host: host, zygote)
      let cell = Cell(
        serial: serial, shape: shape, group: group, initProcess: initProcess, main: main, socket: socket,
        user: user, areas: areas, deadline: Instant.now.advanced(milliseconds: patienceMilliseconds))
      do throws(Refusal) {
        try requiring("cgroup.limits") { () throws(SystemError) in
          try group.apply(
            CgroupLimits(
              memoryBytes: shape.memoryBytes, pids: shape.pids, cpuMillis: shape.cpuMillis,
              countsSockets: shape.isNetworked))
        }
        try cell.verify(host: host, own: own)
        return cell
      } catch {
        main.end()
        throw error
      }
    } catch {
      // Whatever else is in the groups is in its pid namespace.
      foundation.end()
      throw error
    }
  }

  private static func makeJob(
    _ job: JobProcess, _ entrance: CgroupEntrance, _ initProcess: ProcessHandle, host: Host, _ zygote: Zygote?
  ) throws(Refusal) -> (ProcessHandle, CellFilesystem.Areas, PacketSocket) {
    let (mine, theirs) = try requiring("cell") { () throws(SystemError) in
      let pair = try PacketSocket.pair()
      try pair.0.descriptor.setNonBlocking()
      return pair
    }
    if let zygote {
      let (main, areas) = try zygote.fork(job, socket: theirs.descriptor, in: entrance, beside: initProcess)
      return (main, areas, mine)
    }
    let (slot, null) = (job.grounds.slot.raw, job.grounds.null)
    try requiring("cell") { () throws(SystemError) in try theirs.descriptor.copy(to: slot, keptOnExecute: false) }
    // It would keep an end open that tells by closing.
    defer { try? null.copy(to: slot, keptOnExecute: false) }
    return try withExtendedLifetime(theirs) { () throws(Refusal) in
      let execution: Execution =
        switch job.shape.runtime {
        case .program: host.program.jobExecution
        case .python(let imports), .forkedPython(let imports): PythonProgram(imports: imports).execution
        }
      // Root comes back to its own pid namespace by itself.
      let own = host.grounds.mode == .root ? host.own : nil
      let (main, areas) = try job.spawn(execution, in: entrance, beside: initProcess, own: own)
      return (main, areas, mine)
    }
  }

  /// Checks that the job's process is under every limit and in namespaces of its own, and keeps a way into its mount
  /// namespace. Before any order.
  private func verify(host: Host, own: NamespaceIdentities) throws(Refusal) {
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
    guard identities.identities["mnt"] != host.templateIdentity else {
      throw Refusal(control: "namespaces.mnt", stage: "the cell shares it with every other")
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
  /// - Parameter names: with the stage's names of hosts, too.
  func attach(stage: String, names: Bool) throws(Refusal) {
    try requiring("stage") { () throws(SystemError) in
      // A mount can be copied only from one's own namespace.
      var staged = [
        (try staged("\(stage)/input"), Template.Path.input), (try staged("\(stage)/job"), Template.Path.job),
      ]
      if names {
        let directory = "\(stage)/\(CellNetwork.namesDirectory)"
        staged.append((try self.staged(directory, CellNetwork.namesFile), Template.Path.hosts))
      }
      try Namespaces.mount.enter(cell)
      defer { comeBack() }
      for (mount, path) in staged { try mount.attach(at: path) }
    }
  }

  private func staged(_ path: String, _ name: String = ".") throws(SystemError) -> DetachedMount {
    let directory = try staging.open(beneath: path, O_RDONLY | O_DIRECTORY)
    let mount = try DetachedMount.clone(name, at: directory, recursive: false)
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
