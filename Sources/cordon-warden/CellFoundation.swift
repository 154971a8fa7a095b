import Glibc
import Kernel
import WardenProtocol

/// What is the same in every cell, whatever its shape: an init in fresh namespaces, and fresh groups without limits.
struct CellFoundation {
  let initProcess: ProcessHandle
  let group: any CellCgroup

  /// - Parameter serial: names the groups; used once.
  init(serial: UInt64, host: Host) throws(Refusal) {
    initProcess = try CellInit(host: host).spawn()
    do throws(Refusal) {
      group = try requiring("cgroup") { () throws(SystemError) in try host.cgroups.makeCell("cell-\(serial)") }
    } catch {
      initProcess.end()
      throw error
    }
  }

  /// Whether the init lives: without it there is nothing to build on.
  var stands: Bool { (try? initProcess.peek()) == .some(nil) }

  func end() {
    initProcess.end()
    for _ in 0..<100 where (try? group.remove()) == false { usleep(1_000) }
  }
}
