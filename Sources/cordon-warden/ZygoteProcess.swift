import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// A zygote is the warden's own program, executed anew with an address space and memory of its own, that loads python3 as a
// library, imports what one policy names and from then on is forked: one process for each cell, which begins with the
// interpreter as it stands and shares its memory until it writes to it.
//
//   warden    says `prepare`, and for each cell `fork`, with the cell's init and groups, which it has made
//   zygote    forks into the cell's pid namespace and v2 group and says `forked`; the process is the warden's child
//   process   does in its copy of the memory what every cell's process does (`JobProcess`): enters the cell, builds it,
//             says `laid` with the roots of its outputs, and gives up everything. Only then does the interpreter learn
//             that it was forked, and runs `PythonProgram.wait`: from there on it is a waiting interpreter like any other.
//
// The zygote is as privileged as the warden, in the warden's namespaces and under the warden's filter: its children have
// to enter their cells. It runs no byte of a job's; modules come from the host's /usr alone (`-I`), whose programs are
// trusted as the warden's is. What a module leaves behind might join cells, so it is looked for when all are
// imported: a second thread would be lost in a fork, and memory that is shared and writable would be shared by jobs.
//
// All cells of one zygote have one layout of the address space, one hash seed and one stack canary; how many that may be is
// bounded by the warden (`Zygote.cellsPerLayout`). The warden's own layout is another: it is another execution.

/// A zygote, from its start to its end.
struct ZygoteProcess {
  private let control: PacketSocket
  private let grounds: JobGrounds
  private let python: EmbeddedPython

  /// How the warden calls the program for this role. A job forked from here is shown with the same arguments.
  static let arguments = CellRuntime.pythonCommand

  /// Never returns. By number 3 the process has the socket to its warden.
  static func run() -> Never {
    let control = PacketSocket(Descriptor(owning: CellDescriptors.socket))
    do throws(Refusal) {
      try ZygoteProcess(control).serve()
      exit(0)
    } catch {
      try? control.send(ZygoteReply.cannot(error).encoded)
      exit(1)
    }
  }

  private init(_ control: PacketSocket) throws(Refusal) {
    self.control = control
    // The warden may have gone before that; then there is end of file on the socket.
    try Self.step { () throws(SystemError) in try SystemError.check(cordon_die_with_parent(), "prctl pdeathsig") }
    cordon_set_name("cordon-zygote")
    // The user namespace of an ordinary user's warden maps its uid to itself.
    let mode: WardenFacts.Mode = geteuid() == 0 ? .root : .userNamespace
    let filters = try JobGrounds.compileFilters()
    grounds = try Self.step { () throws(SystemError) in
      let null = try Descriptor.open("/dev/null", O_RDWR)
      return JobGrounds(
        mode: mode, null: null, slot: try null.duplicate(), filters: filters, landlock: try LandlockGrounds.open())
    }
    guard let packet = try Self.step({ () throws(SystemError) in try control.receive(limit: Bounds.message) }),
      case .prepare(let imports)? = try? ZygoteOrder(decoding: packet.bytes), let proc = packet.descriptors.first
    else { throw Refusal(control: Zygote.controlName, stage: "the warden did not say what to import") }
    python = try Self.start(imports)
    try Self.seeThatItCanFork(proc)
  }

  private static func start(_ imports: [String]) throws(Refusal) -> EmbeddedPython {
    let program = CellRuntime.pythonCommand[0]
    guard let interpreter = Template.link(program).map({ String($0.split(separator: "/").last ?? "") }) else {
      throw Refusal(control: Zygote.controlName, stage: "\(program) is no link to an interpreter of a version")
    }
    let python = try step(fix: "install lib\(interpreter)") { () throws(SystemError) in
      try EmbeddedPython(program: program, interpreter: interpreter)
    }
    guard python.run(PythonProgram(imports: imports).preparation) else {
      throw Refusal(
        control: Zygote.controlName, stage: "\(program) did not import the modules of the policy",
        fix: "see that it has them: \(imports.joined(separator: " "))")
    }
    return python
  }

  private static func seeThatItCanFork(_ proc: Descriptor) throws(Refusal) {
    let fix = #"take the module that does so off the policy's "imports", or use "mode": "interpreter""#
    let (threads, maps) = try step { () throws(SystemError) in
      (
        try Descriptor.open("self/task", O_RDONLY | O_DIRECTORY, at: proc).entries(),
        try Descriptor.open("self/maps", at: proc).readAll(limit: longestMaps)
      )
    }
    guard threads.count == 1 else {
      throw Refusal(control: Zygote.controlName, stage: "importing started \(threads.count - 1) threads", fix: fix)
    }
    if let shared = sharedMemory(maps: String(decoding: maps, as: UTF8.self)) {
      throw Refusal(
        control: Zygote.controlName, stage: "importing left memory that jobs would share: \(shared)", fix: fix)
    }
  }

  /// Many times what thousands of libraries make.
  private static let longestMaps = 8 << 20

  /// The first line of a /proc/PID/maps that is writable and shared.
  static func sharedMemory(maps: String) -> Substring? {
    maps.split(separator: "\n").first { line in
      let fields = line.split(separator: " ")
      return fields.count > 1 && fields[1].contains("w") && fields[1].hasSuffix("s")
    }
  }

  private func serve() throws(Refusal) {
    try say(.ready)
    while let packet = try Self.step({ () throws(SystemError) in try control.receive(limit: Bounds.message) }) {
      do throws(Refusal) {
        let process = try fork(packet)
        try say(.forked(processID: process.processID), [process.descriptor])
      } catch {
        try say(.notForked(error))
      }
    }
  }

  private func say(_ reply: ZygoteReply, _ descriptors: [Descriptor] = []) throws(Refusal) {
    try Self.step { () throws(SystemError) in try control.send(reply.encoded, descriptors: descriptors) }
  }

  private func fork(_ packet: PacketSocket.Message) throws(Refusal) -> ProcessHandle {
    guard case .fork(let user, let shape)? = try? ZygoteOrder(decoding: packet.bytes), packet.descriptors.count >= 3
    else { throw Refusal(control: Zygote.controlName, stage: "an order that is none") }
    var given = packet.descriptors
    let disk = shape.outputs == .disk ? DetachedMount(descriptor: given.removeLast()) : nil
    let (socket, initProcess) = (given[0], given[1])
    let entrance = CgroupEntrance(handle: given[2], others: Array(given[3...]))
    try Self.step { () throws(SystemError) in try python.note(.before) }
    let process: ProcessHandle?
    do throws(SystemError) { process = try ProcessHandle.fork(beside: initProcess, cgroup: entrance.handle) } catch {
      try? python.note(.parent)
      throw Refusal("namespaces.pid", error)
    }
    guard let process else {
      become(JobProcess(grounds: grounds, user: user, shape: shape, disk: disk), socket, initProcess, entrance)
    }
    try Self.step { () throws(SystemError) in try python.note(.parent) }
    return process
  }

  /// In the new process.
  private func become(
    _ job: JobProcess, _ socket: Descriptor, _ initProcess: Descriptor, _ entrance: CgroupEntrance
  ) -> Never {
    do throws(Refusal) {
      let areas = try job.build(initProcess: initProcess, entrance: entrance)
      try Self.step { () throws(SystemError) in try socket.copy(to: grounds.slot.raw, keptOnExecute: false) }
      try say(.laid, [areas.output, areas.result])
    } catch {
      try? say(.refused(error))
      _exit(1)
    }
    do throws(SystemError) {
      // Objects that hold a descriptor from before this would close a number of the job's; nothing here goes away.
      try job.giveUp(keeping: CellDescriptors.socket)
      try SystemError.check(cordon_dumpable(), "prctl dumpable")
      try SystemError.check(cordon_set_name("python3"), "prctl name")
      try python.note(.child)
    } catch {
      let said = CellMessage.failed(.confine, errno: error.errno).encoded
      try? PacketSocket(Descriptor(owning: CellDescriptors.socket)).send(said)
      _exit(1)
    }
    exit(python.run(PythonProgram.wait) ? 0 : 1)
  }

  @discardableResult
  private static func step<Value>(fix: String = "", _ body: () throws(SystemError) -> Value) throws(Refusal) -> Value {
    try requiring(Zygote.controlName, fix: fix, body)
  }
}
