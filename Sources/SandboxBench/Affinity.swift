import BenchReport
import Glibc

/// Which processors this process may use. What is spawned later, wardens among it, inherits that.
struct Affinity {
  /// As the kernel lists them, such as `0-3,8`.
  private let allowed: String
  let processors: [Int]

  /// As it is now.
  init() throws {
    guard let list = Self.list(of: "/proc/self/status") else {
      throw BenchError("/proc/self/status names no processor")
    }
    allowed = list
    processors = list.split(separator: ",").flatMap { range -> [Int] in
      let ends = range.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last else { return [] }
      return Array(first...last)
    }
  }

  /// All threads onto one processor. The last of those allowed: a machine's interrupts mostly go to the first.
  /// `with`: processes that were started before and have to follow.
  func pin(with others: Set<Int32> = []) throws { try apply("\(processors.last ?? 0)", others) }

  func restore(with others: Set<Int32> = []) throws { try apply(allowed, others) }

  /// By taskset(1), which glibc's headers put in nobody's way. A thread that is made meanwhile inherits its maker's
  /// mask, old or new, so this is repeated until every thread has the new one.
  private func apply(_ list: String, _ others: Set<Int32>) throws {
    // One that has ended meanwhile needs no processor.
    for process in others { try? Self.taskset(list, process).runOrExplain() }
    var problem = "threads keep appearing on other processors"
    for _ in 0..<10 {
      do {
        try Self.taskset(list, getpid()).runOrExplain()
      } catch {
        // Also when a thread ended while it was looked at, so the masks decide.
        problem = "\(error)"
      }
      let threads = try ProcFile.numbers(in: "/proc/self/task")
      if threads.allSatisfy({ [list, nil].contains(Self.list(of: "/proc/self/task/\($0)/status")) }) { return }
    }
    throw BenchError("cannot keep to processors \(list): \(problem)")
  }

  private static func taskset(_ list: String, _ process: Int32) throws -> Spawn {
    try Spawn(["/usr/bin/taskset", "--all-tasks", "--cpu-list", "--pid", list, "\(process)"])
  }

  private static func list(of status: String) -> String? {
    let lines = ProcFile.text(status)?.split(separator: "\n") ?? []
    return lines.first { $0.hasPrefix("Cpus_allowed_list:") }?.split(separator: "\t").last.map(String.init)
  }
}
