import Glibc
import Kernel
import WardenProtocol

extension Cell {
  /// Makes one cell up to the point where it waits for an order, checks it, kills it and removes it: a host that
  /// cannot confine is found out before the first job, with the step that failed.
  static func rehearse(host: inout Host, own: NamespaceIdentities) throws(Refusal) {
    guard let user = host.users.take() else { throw Refusal(control: "uids", stage: "no uid is free") }
    defer { host.users.release(user) }
    let shape = CellShape(limits: CellLimits(memoryBytes: 64 << 20, pids: 4), runtime: .program)
    let patience = Supervisor.startPatienceMilliseconds
    let cell = try build(serial: 0, shape: shape, user: user, host: host, patienceMilliseconds: patience)
    do throws(Refusal) {
      try cell.comeUp(within: patience)
      try cell.verify(host: host, own: own)
    } catch {
      try? cell.endRehearsal()
      throw error
    }
    try cell.endRehearsal()
  }

  private func comeUp(within milliseconds: Int64) throws(Refusal) {
    var waiting = pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
    _ = poll(&waiting, 1, Int32(milliseconds))
    let message = try? socket.receive(limit: Bounds.message)
    switch message.flatMap({ CellMessage(decoding: $0.bytes) }) {
    case .prepared: return
    case .refused(let refusal): throw refusal
    default: throw Refusal(control: "cell", stage: "the first cell did not come up")
    }
  }

  private func endRehearsal() throws(Refusal) {
    let group = group
    try requiring("cgroup.kill") { () throws(SystemError) in
      try group.kill()
      try initProcess.signal(SIGKILL)
    }
    mounts = nil
    for _ in 0..<1_000 {
      try? reapMain()
      try? reapInit()
      if isMainReaped, isInitReaped, (try? group.isPopulated()) == false, (try? group.remove()) == true { return }
      usleep(1_000)
    }
    throw Refusal(control: "cgroup.kill", stage: "the first cell did not die")
  }
}
