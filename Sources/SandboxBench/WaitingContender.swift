import BenchReport
import CFloor
import Foundation
import Glibc
import Kernel
import Synchronization

// What stands in the way of a pool. Whatever waits for an order has to execute the program then, and the program has to
// come to its end: this contender does that with no wall around it, so that no pool of cells can be faster.

/// The program, executed by a process that was there before and has waited.
final class WaitingContender: Contender {
  let name = "waiting"
  let note = "a process that waits, executes and is waited for: no wall"
  let limitsResources = false
  let wardens: [Int32] = []

  private struct Ready {
    var pid: pid_t
    var go: Int32
  }

  nonisolated(unsafe) private let argv: [UnsafeMutablePointer<CChar>?]
  nonisolated(unsafe) private let environment: [UnsafeMutablePointer<CChar>?]
  private let ready = Mutex<[Int: Ready]>([:])

  init(_ program: Program) {
    argv = program.arguments.map { strdup($0) } + [nil]
    environment = Program.environment.map { strdup("\($0.0)=\($0.1)") } + [nil]
  }

  deinit {
    for pointer in argv + environment { free(pointer) }
  }

  func offers(_ program: Program) -> Bool { program == .nothing }

  func run(_ program: Program, slot: Int) async throws -> Latency {
    let process = try ready.withLock { $0.removeValue(forKey: slot) } ?? prepare(slot)
    let begin = microseconds()
    let told = write(process.go, "x", 1)
    let status = waitStatus(process.pid)
    let end = microseconds()
    Glibc.close(process.go)
    guard told == 1, status == 0 else { throw BenchError("\(name): \(program.name): status \(status)") }
    let next = try prepare(slot)
    ready.withLock { $0[slot] = next }
    return Latency(started: nil, total: end - begin)
  }

  func runs(_ program: Program, slot: Int, while wanted: @escaping @Sendable () -> Bool) async throws -> Int {
    var count = 0
    while wanted() {
      _ = try await run(program, slot: slot)
      count += 1
    }
    return count
  }

  private func prepare(_ slot: Int) throws -> Ready {
    var go: Int32 = -1
    let pid = floor_wait(Int32(slot), argv, environment, &go)
    guard pid > 0 else { throw BenchError("\(name): \(String(cString: strerror(errno)))") }
    return Ready(pid: pid, go: go)
  }

  private func waitStatus(_ pid: pid_t) -> Int32 {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return status
  }

  func prepared() throws -> Int { 0 }
  func settle(prepared: Int) async throws -> ContinuousClock.Instant { .now }

  func close() async {
    for process in ready.withLock({ $0.values.map { $0 } }) {
      Glibc.close(process.go)
      _ = waitStatus(process.pid)
    }
    ready.withLock { $0 = [:] }
  }
}
