import CLinux
import Glibc
import Kernel
import WardenProtocol

/// The warden's hold on one zygote; see `ZygoteProcess`.
final class Zygote {
  /// By which its events are known, among those of cells.
  let serial: UInt64
  let imports: [String]
  let process: ProcessHandle
  let socket: PacketSocket
  /// It has imported everything and can be forked.
  var isReady = false
  /// Cells that were forked from it.
  private(set) var cells = 0
  /// When one was last asked for.
  var usedAt: Instant

  static let controlName = "runtime.zygote"
  /// Cells that may have the same layout of their address spaces. A zygote costs about what one interpreter takes to start and
  /// import, so that at this number a cell's share of it is a small part of what the fork itself takes.
  static let cellsPerLayout = 256
  /// A fork and the building of a cell take about a millisecond; the warden waits for it, and so do all its cells.
  private static let patienceMilliseconds: Int32 = 2_000

  private init(serial: UInt64, imports: [String], process: ProcessHandle, socket: PacketSocket) {
    self.serial = serial
    self.imports = imports
    self.process = process
    self.socket = socket
    usedAt = .now
  }

  var hasServed: Bool { cells > 0 }

  /// Its layout has been used often enough.
  var isSpent: Bool { cells >= Zygote.cellsPerLayout }

  /// Executes the warden's own program in that role. It is ready later, or says why not.
  static func begin(serial: UInt64, imports: [String], program: Descriptor, host: Host) throws(Refusal) -> Zygote {
    let execution = Execution(
      program: CellDescriptors.program, arguments: ZygoteProcess.arguments, environment: PythonProgram.environment)
    return try requiring(controlName) { () throws(SystemError) in
      let (mine, theirs) = try PacketSocket.pair()
      var failure: SystemError?
      let (process, cause) = try ProcessHandle.spawn(execution) {
        do throws(SystemError) {
          try CellDescriptors.takeOwn(socket: theirs.descriptor, program: program, null: host.grounds.null)
          try Capabilities.keepOnExecute()
        } catch { failure = error }
        return failure == nil
      }
      if cause != 0 { failure = SystemError("execute the zygote", errno: cause) }
      do throws(SystemError) {
        if let failure { throw failure }
        try mine.send(ZygoteOrder.prepare(imports: imports).encoded, descriptors: [host.proc])
      } catch {
        process.end()
        throw error
      }
      return Zygote(serial: serial, imports: imports, process: process, socket: mine)
    }
  }

  /// One process for a cell, waiting or on its way to that, and the roots of its outputs.
  func fork(
    _ job: JobProcess, socket theirs: Descriptor, in entrance: CgroupEntrance, beside initProcess: ProcessHandle
  ) throws(Refusal) -> (process: ProcessHandle, areas: CellFilesystem.Areas) {
    cells += 1
    let given = [theirs, initProcess.descriptor, entrance.handle] + entrance.others
    try requiring(Zygote.controlName) { () throws(SystemError) in
      try socket.send(
        ZygoteOrder.fork(user: job.user, job.shape).encoded,
        descriptors: given + (job.disk.map { [$0.descriptor] } ?? []))
    }
    var process: ProcessHandle?
    var areas: CellFilesystem.Areas?
    var refusal: Refusal?
    do throws(Refusal) {
      while true {
        if let process, let areas { return (process, areas) }
        if process != nil, let refusal { throw refusal }
        let (reply, given) = try hear(from: process)
        switch reply {
        case .forked(let processID) where process == nil && given.count == 1:
          process = ProcessHandle(processID: processID, descriptor: given[0])
        case .laid where given.count == 2: areas = CellFilesystem.Areas(output: given[0], result: given[1])
        case .refused(let why): refusal = why
        case .notForked(let why): throw why
        default: throw lost("the zygote does not do as it was told")
        }
      }
    } catch {
      process?.end()
      throw error
    }
  }

  /// What it says from now on would be about another cell; its end is seen to by the supervisor.
  private func lost(_ stage: String, errno: Int32 = 0) -> Refusal {
    isReady = false
    try? process.signal(SIGKILL)
    return Refusal(control: Zygote.controlName, stage: stage, errno: errno)
  }

  /// The next thing that the zygote or the process says; throws when either is gone, or late.
  private func hear(
    from process: ProcessHandle?
  ) throws(Refusal) -> (reply: ZygoteReply, descriptors: [Descriptor]) {
    var polled = [pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)]
    if let process { polled.append(pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)) }
    let count = poll(&polled, nfds_t(polled.count), Zygote.patienceMilliseconds)
    guard count > 0 else {
      throw lost("the zygote did not answer in time", errno: ETIMEDOUT)
    }
    guard polled[0].revents != 0 else {
      throw Refusal(control: "cell", stage: "the cell's process ended while it was built")
    }
    guard let message = try? socket.receive(limit: Bounds.message),
      let reply = try? ZygoteReply(decoding: message.bytes)
    else { throw lost("the zygote is gone") }
    return (reply, message.descriptors)
  }
}
