import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// The main process of a job, forked from the warden into the cell's pid namespace and its groups; the warden is its
// parent and learns from the kernel how it ended. It builds the cell, makes itself harmless and then waits for the order,
// so that as little as possible is left to do when one comes. In this order, and the order matters:
//
//   enter    the v1 groups, so that everything it makes from here on is charged to the cell; the namespaces of the cell's
//            init; then only its own socket is left of the warden's descriptors. A cgroup namespace, now that the groups
//            are known.
//   build    lo up, host name, /proc and the cell's filesystems (`CellFilesystem`).
//   give up  terminal session, resources, keyring, bounding capabilities (which needs privilege), groups and uid, all other
//            capabilities, the right to gain any (no_new_privs), inherited signal state, files beyond the granted
//            (Landlock), and last the system calls (the filter). From here on it is as confined as the job.
//   wait     `prepared` goes to the warden with the roots of /output and /result; then the order comes, or end of file:
//            the warden has no use for this cell, or is gone.
//   start    0, 1 and 2, the working directory, the word that it runs, execve. The socket closes with the execve, which
//            tells the warden that the job runs; if it fails, what failed follows on the socket instead.
//
// A started interpreter (`CellRuntime`) executes between wait and start; its program (`PythonProgram`) does the rest.

/// The main process of one job, from its fork to its execve.
struct JobProcess {
  var user: UInt32
  var group: UInt32
  var mode: WardenFacts.Mode
  var filter: SeccompFilter
  var landlock: Int32?
  var shape: CellShape
  /// Where /output comes from if it lies on a disk.
  var disk: PacketSocket?

  private static let hostName = "cell"

  /// Never returns. `initProcess` is the pidfd of the cell's init.
  func run(socket: PacketSocket, initProcess: Descriptor, cgroup: any CellCgroup, null: Descriptor) -> Never {
    var warden = socket
    do {
      try requiring("cgroup.attach") { () throws(SystemError) in try cgroup.enter() }
      try requiring("namespaces") { () throws(SystemError) in try Namespaces.joined.enter(initProcess) }
      let (raw, other) = CellDescriptors.keepOnly(socket.descriptor, disk?.descriptor ?? null, null: null)
      warden = PacketSocket(Descriptor(owning: raw))
      let areas = try build(disk: PacketSocket(Descriptor(owning: other)))
      try requiring("job") { () throws(SystemError) in try giveUp() }
      try tell(.prepared, warden, [areas.output, areas.result])
      switch shape.runtime {
      case .program: try start(warden)
      case .python(let imports): throw PythonProgram(imports: imports).execute(warden)
      }
    } catch let refusal as Refusal {
      try? tell(.refused(refusal), warden)
    } catch {
      try? tell(.refused(Refusal(control: "cell", stage: "\(error)")), warden)
    }
    _exit(127)
  }

  /// `disk` is closed when this returns.
  private func build(disk: consuming PacketSocket) throws(Refusal) -> (output: Descriptor, result: Descriptor) {
    try requiring("namespaces.cgroup") { () throws(SystemError) in try Namespaces.cgroup.unshare() }
    try requiring("network.lo") { () throws(SystemError) in
      try SystemError.check(cordon_loopback_up(), "bring lo up")
    }
    try requiring("hostname") { () throws(SystemError) in
      try SystemError.check(cordon_sethostname(JobProcess.hostName), "sethostname")
    }
    return try filesystem.lay(disk: disk)
  }

  private var filesystem: CellFilesystem { CellFilesystem(mode: mode, shape: shape, user: user, group: group) }

  private func giveUp() throws(SystemError) {
    try SystemError.check(setsid(), "setsid")
    try ResourceLimits.apply(largestFile: filesystem.largestFile)
    umask(0o022)
    // Hosts may refuse keyrings altogether, and the filter refuses every later use of them.
    _ = cordon_new_session_keyring()
    try Capabilities.dropBounding()
    try SystemError.check(cordon_become(user, group, mode == .userNamespace ? 1 : 0), "become uid \(user)")
    try Capabilities.dropAll()
    try SystemError.check(cordon_no_new_privileges(), "prctl no_new_privs")
    cordon_reset_signals()
    try filesystem.restrict(version: landlock)
    try filter.load()
  }

  /// Returns when the warden wants no job here; throws what kept the job from starting.
  private func start(_ warden: PacketSocket) throws {
    guard let message = try warden.receive(limit: Bounds.message) else { return }
    guard case .run(let order) = try WardenRequest(decoding: message.bytes), message.descriptors.count == 3 else {
      throw Refusal(control: "order", stage: "the warden sent something else than an order")
    }
    let arguments = JobProcess.strings(order.arguments)
    let environment = JobProcess.strings(order.environment.map { "\($0.name)=\($0.value)" })
    try requiring("job") { () throws(SystemError) in
      for (number, descriptor) in message.descriptors.enumerated() {
        try SystemError.check(dup2(descriptor.raw, Int32(number)), "dup2 \(number)")
      }
      try SystemError.check(chdir(Template.Path.job), "chdir \(Template.Path.job)")
    }
    // Every descriptor but 0, 1 and 2 closes with the execve.
    try tell(.running(since: .now), warden)
    execve(arguments[0]!, arguments, environment)
    throw Refusal(control: "exec", stage: "execve \(order.arguments[0].prefix(1_024))", errno: errno)
  }

  private func tell(
    _ message: CellMessage, _ warden: PacketSocket, _ descriptors: [Descriptor] = []
  ) throws(SystemError) {
    try warden.send(message.encoded, descriptors: descriptors)
  }

  static func strings(_ texts: [String]) -> [UnsafeMutablePointer<CChar>?] {
    texts.map { strdup($0) } + [nil]
  }
}
