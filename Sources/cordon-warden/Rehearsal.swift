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
    let foundation = try CellFoundation(serial: 0, host: host)
    let cell = try build(
      serial: 0, shape: shape, user: user, host: host, own: own, patienceMilliseconds: 0, foundation: foundation)
    let isThere = (try? cell.main.peek()) == .some(nil)
    try cell.endRehearsal()
    guard isThere else { throw Refusal(control: "cell", stage: "the first cell's process did not wait for an order") }
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
