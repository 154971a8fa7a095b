import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// Process 1 of a cell, in the forked image of the warden. In this order, and the order matters:
//
//   prepare  die with the warden; drop every descriptor but the own socket (the warden holds those of the siblings);
//            lo up; host name; /proc of this pid namespace. Then `prepared`, and wait. Nothing here depends on the
//            order, so cells can be made in advance.
//   start    the warden has put this process under every limit and sends the order. Own cgroup namespace (now that
//            the groups are known), the mounts of this order, letting go of the staging directory. Fork the job's
//            process, which gives up what it has and waits. Give up one's own privileges. Let the job go.
//   wait     reap; when the main process ends, say how and exit, which ends whatever else is in the pid namespace.
//
// Nothing of the job's runs in this process, and a job can neither trace nor read it: it is not dumpable, and where
// there is more than one uid it has another one.

/// Pid 1 of one cell.
struct CellInit {
  var mode: WardenFacts.Mode
  /// The job's uid.
  var user: UInt32
  /// The job's gid.
  var group: UInt32
  /// Uid and gid of this process after the start; nil where there is only the job's.
  var initUser: UInt32?
  var filter: SeccompFilter

  private static let socketDescriptor: Int32 = 3
  private static let hostName = "cell"
  /// Kernel memory of a file's inode is about 1 KiB, so this bounds what empty files can take.
  private static let temporaryInodes = 16_384
  /// Root, the result, and what a job writes beside it before it renames.
  private static let resultInodes = 8
  private static let pageBytes: Int64 = 4_096

  /// Runs the cell; never returns. `socket` and `null` are the warden's descriptors for them.
  func run(socket: Int32, null: Int32) -> Never {
    let warden = CellInit.keepOnly(socket: socket, null: null)
    do {
      try prepare()
      try tell(.prepared, warden)
      // End of file: the warden has no use for this cell, or is gone.
      guard var message = try receive(warden) else { _exit(0) }
      let status = try start(&message, warden)
      try tell(.ended(status), warden)
      _exit(0)
    } catch let refusal as Refusal {
      try? tell(.refused(refusal), warden)
    } catch {
      try? tell(.refused(Refusal(control: "cell", stage: "\(error)")), warden)
    }
    _exit(1)
  }

  /// Leaves /dev/null as 0, 1, 2, and the socket as 3. Copies of the warden's other descriptors, those of sibling
  /// cells among them, are gone after this; the objects that held them are never used again in this process.
  private static func keepOnly(socket: Int32, null: Int32) -> PacketSocket {
    cordon_die_with_parent()
    for standard: Int32 in 0...2 where null != standard { dup2(null, standard) }
    if socket != socketDescriptor { dup2(socket, socketDescriptor) }
    cordon_close_range(UInt32(socketDescriptor) + 1, UInt32.max)
    cordon_cloexec_range(UInt32(socketDescriptor), UInt32(socketDescriptor))
    return PacketSocket(Descriptor(owning: socketDescriptor))
  }

  // MARK: prepare

  private func prepare() throws(Refusal) {
    try requiring("network.lo") { () throws(SystemError) in
      try SystemError.check(cordon_loopback_up(), "bring lo up")
    }
    try requiring("hostname") { () throws(SystemError) in
      try SystemError.check(cordon_sethostname(CellInit.hostName), "sethostname")
    }
    let fix = """
      a new /proc needs Linux 5.8, and without root one that nothing is mounted over \
      (container: --security-opt systempaths=unconfined)
      """
    try requiring("proc", fix: fix) { () throws(SystemError) in
      let proc = try DetachedMount.create(
        "proc", options: [("subset", "pid"), ("hidepid", "2")], attributes: [.noSetuid, .noDevices, .noExecution])
      if mode == .userNamespace { try MountNamespace.unmount(Template.Path.proc) }
      try proc.attach(at: Template.Path.proc)
    }
  }

  // MARK: start

  private func start(_ message: inout PacketSocket.Message, _ warden: PacketSocket) throws -> WaitStatus {
    guard case .run(let order) = try WardenRequest(decoding: message.bytes), message.descriptors.count == 3 else {
      throw Refusal(control: "order", stage: "the warden sent something else than an order")
    }
    let areas = try mount(order)
    // Before the fork: while privileges are being given up, neither process may be traced by the other's like.
    try requiring("init") { () throws(SystemError) in
      try SystemError.check(cordon_not_dumpable(), "prctl dumpable")
    }
    let job = JobProcess(
      order: order, user: user, group: group, keepGroups: mode == .userNamespace, filter: filter,
      largestFile: CellInit.largestFile(order.limits))
    let (main, gate, failure) = try job.fork(standard: message.descriptors)
    // Only the job holds its streams, so their readers see the end when the job lets go of them.
    message.descriptors = []
    try requiring("init") { () throws(SystemError) in try dropPrivileges(warden) }
    let since = Instant.now
    try requiring("init") { () throws(SystemError) in try gate.writeAll([1]) }
    if let refusal = try JobProcess.outcome(of: failure) {
      throw refusal
    }
    try tell(.running(since: since), warden, [main.descriptor, areas.output, areas.result])
    return try CellInit.wait(for: main)
  }

  private func mount(_ order: CellOrder) throws -> (output: Descriptor, result: Descriptor) {
    try requiring("namespaces.cgroup") { () throws(SystemError) in try Namespaces.cgroup.unshare() }
    try requiring("stage") { () throws(SystemError) in
      let staging = try Descriptor.open(Template.Path.staging, cordon_o_path | O_DIRECTORY)
      let input = try stage("\(order.stage)/input", in: staging)
      let job = try stage("\(order.stage)/job", in: staging)
      try MountNamespace.unmount(Template.Path.staging)
      try input.attach(at: Template.Path.input)
      try job.attach(at: Template.Path.job)
    }
    let limits = order.limits
    return try requiring("mounts") { () throws(SystemError) in
      for path in [Template.Path.temporary, Template.Path.sharedMemory] {
        try memoryFilesystem(bytes: limits.temporaryBytes, inodes: Int64(CellInit.temporaryInodes), mode: "1777")
          .attach(at: path)
      }
      // One page and one inode more than the limit, beside the root's own inode: an area that has neither left has
      // been asked for more than its limit, and one that is merely full has not.
      let output = try memoryFilesystem(
        bytes: CellInit.pages(limits.outputBytes) + CellInit.pageBytes, inodes: limits.outputFiles + 2, mode: "0700")
      try output.attach(at: Template.Path.output)
      let result = try memoryFilesystem(
        bytes: CellInit.pages(limits.resultBytes) + CellInit.pageBytes, inodes: Int64(CellInit.resultInodes),
        mode: "0700")
      try result.attach(at: Template.Path.result)
      let flags = O_RDONLY | O_DIRECTORY
      return (
        try Descriptor.open(Template.Path.output, flags), try Descriptor.open(Template.Path.result, flags)
      )
    }
  }

  private func stage(_ path: String, in staging: Descriptor) throws(SystemError) -> DetachedMount {
    let directory = try staging.open(beneath: path, cordon_o_path | O_DIRECTORY)
    let mount = try DetachedMount.clone(".", at: directory, recursive: false)
    try mount.restrict([.readOnly, .noSetuid, .noDevices, .noExecution])
    return mount
  }

  /// A tmpfs that belongs to the job. A size or number of 0 would mean no limit, so the least is one page.
  private func memoryFilesystem(bytes: Int64, inodes: Int64, mode: String) throws(SystemError) -> DetachedMount {
    try DetachedMount.create(
      "tmpfs",
      options: [
        ("size", "\(max(CellInit.pageBytes, CellInit.pages(bytes)))"), ("nr_inodes", "\(inodes)"), ("mode", mode),
        ("uid", "\(user)"), ("gid", "\(group)"),
      ], attributes: [.noSetuid, .noDevices])
  }

  private static func pages(_ bytes: Int64) -> Int64 { (bytes + pageBytes - 1) / pageBytes * pageBytes }

  /// Above what any filesystem of the cell holds, so that a full one is ENOSPC and not SIGXFSZ.
  private static func largestFile(_ limits: CellLimits) -> UInt64 {
    UInt64(pages(max(limits.outputBytes, limits.temporaryBytes, limits.resultBytes)) + 2 * pageBytes)
  }

  private func dropPrivileges(_ warden: PacketSocket) throws(SystemError) {
    try Capabilities.dropBounding()
    if let initUser { try SystemError.check(cordon_become(initUser, initUser, 0), "become uid \(initUser)") }
    try Capabilities.dropAll()
    // Both were cleared by the change of uid.
    try SystemError.check(cordon_not_dumpable(), "prctl dumpable")
    try SystemError.check(cordon_die_with_parent(), "prctl pdeathsig")
    // The warden may have died while there was no signal for it.
    var socket = pollfd(fd: warden.descriptor.raw, events: 0, revents: 0)
    if poll(&socket, 1, 0) > 0, socket.revents & Int16(POLLHUP) != 0 { _exit(1) }
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    try filter.load()
  }

  // MARK: wait

  /// Reaps every orphan of the cell until the main process ends.
  private static func wait(for main: ProcessHandle) throws(SystemError) -> WaitStatus {
    while true {
      var raw: Int32 = 0
      let reaped = waitpid(-1, &raw, 0)
      if reaped < 0, errno == EINTR { continue }
      try SystemError.check(reaped, "waitpid")
      if reaped == main.processID, let status = WaitStatus(raw: raw) { return status }
    }
  }

  private func tell(
    _ message: CellMessage, _ warden: PacketSocket, _ descriptors: [Descriptor] = []
  ) throws(SystemError) {
    try warden.send(message.encoded, descriptors: descriptors)
  }

  private func receive(_ warden: PacketSocket) throws(SystemError) -> PacketSocket.Message? {
    try warden.receive(limit: Bounds.message)
  }
}
