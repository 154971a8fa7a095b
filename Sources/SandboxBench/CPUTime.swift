import BenchReport
import Glibc

/// Processor seconds, to be subtracted from one another.
struct CPUTime {
  /// Of the processes involved: ours, what we waited for, and the wardens' trees with what those waited for.
  var processes: Double
  /// Of the whole machine, kernel threads and interrupts included: work that is put off to them, such as taking a
  /// network namespace down, shows here only. So does whatever else runs on the machine.
  var machine: Double

  static func now(wardens: [Int32]) throws -> CPUTime {
    let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
    var seconds = used(RUSAGE_SELF.rawValue) + used(RUSAGE_CHILDREN.rawValue)
    if !wardens.isEmpty {
      let table = try ProcessTable()
      for process in wardens.reduce(into: Set<Int32>(), { $0.formUnion(table.tree(of: $1)) }) {
        seconds += Double(table.processes[process]?.ticks ?? 0) / ticksPerSecond
      }
    }
    guard let line = ProcFile.text("/proc/stat")?.split(separator: "\n").first else {
      throw BenchError("/proc/stat cannot be read")
    }
    // user nice system idle iowait irq softirq; the rest is the hypervisor's, or counted already.
    let fields = line.split(separator: " ").dropFirst().map { Double($0) ?? 0 }
    let busy = [0, 1, 2, 5, 6].reduce(0) { $0 + (fields.count > $1 ? fields[$1] : 0) }
    return CPUTime(processes: seconds, machine: busy / ticksPerSecond)
  }

  static func - (left: CPUTime, right: CPUTime) -> CPUTime {
    CPUTime(processes: left.processes - right.processes, machine: left.machine - right.machine)
  }

  private static func used(_ who: Int32) -> Double {
    var usage = rusage()
    getrusage(who, &usage)
    return [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
  }
}
