import Glibc
import Kernel
import WardenProtocol

extension PreparedCell {
  /// Makes one cell up to the point where it waits for an order, checks it, kills it and removes it: a host that
  /// cannot confine is found out before the first job, with the step that failed.
  static func rehearse(name: String, host: inout Host, own: NamespaceIdentities) throws(Refusal) {
    guard let user = host.users.take() else { throw Refusal(control: "uids", stage: "no uid is free") }
    defer { host.users.release(user) }
    let limits = CgroupLimits(memoryBytes: 64 << 20, pids: 4, cpuMillis: 1_000)
    let cell = try PreparedCell(name: name, limits: limits, user: user, host: host)
    var waiting = pollfd(fd: cell.socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
    _ = poll(&waiting, 1, Int32(Supervisor.startPatienceMilliseconds))
    let message = try? cell.socket.receive(limit: Bounds.message)
    switch message.flatMap({ CellMessage(decoding: $0.bytes) }) {
    case .prepared: _ = try cell.confine(host: host, own: own)
    case .refused(let refusal): throw refusal
    default: throw Refusal(control: "cell", stage: "the first cell did not come up")
    }
    try cell.endRehearsal()
  }

  private func endRehearsal() throws(Refusal) {
    let group = group
    try requiring("cgroup.kill") { () throws(SystemError) in try group.kill() }
    var isReaped = false
    for _ in 0..<1_000 {
      if !isReaped { isReaped = ((try? initProcess.reap()) ?? nil) != nil }
      if isReaped, (try? group.isPopulated()) == false, (try? group.remove()) == true { return }
      usleep(2_000)
    }
    throw Refusal(control: "cgroup.kill", stage: "the first cell did not die")
  }
}
