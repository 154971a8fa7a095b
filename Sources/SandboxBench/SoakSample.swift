import BenchReport
import Glibc
import Jobs

/// What is on the machine at one moment of a soak, with no job running and nothing left to be taken down.
struct SoakSample: Sendable {
  /// Cells run so far.
  var cells = 0
  var seconds = 0.0
  /// Median latency of the cells since the sample before, so many in flight, in microseconds.
  var latency = Double.nan
  var perSecond = Double.nan

  /// Cells that wait.
  var waiting = 0.0
  var hostProcesses = 0.0
  var wardenProcesses = 0.0
  var cgroups = 0.0
  /// Removed, but still held by something that was charged to them.
  var dyingCgroups = 0.0
  /// Memory groups as the kernel counts them, removed ones that are still held included.
  var memoryCgroups = Double.nan
  var mounts = 0.0
  /// But for the network namespaces that it keeps.
  var wardenDescriptors = 0.0
  /// Empty network namespaces that wait for cells.
  var keptNetworks = 0.0
  var workerDescriptors = 0.0
  var uids = 0.0
  var networks = 0.0
  /// Objects of the kernel's cache of network namespaces; taking one down lags behind.
  var networkObjects = Double.nan
  var wardenResident = 0.0
  var wardenPrivate = 0.0
  var workerResident = 0.0
  var workerPrivate = 0.0
  var available = 0.0
  /// Kernel memory that cannot be reclaimed.
  var kernel = 0.0

  /// Where it can be read only. Throws when the warden is gone.
  static func take(of contender: CordonContender) throws -> SoakSample {
    guard let warden = contender.wardens.first else { throw BenchError("no warden") }
    var sample = SoakSample()
    let table = try ProcessTable()
    let tree = table.tree(of: warden)
    guard !tree.isEmpty else { throw BenchError("the warden is gone") }
    sample.waiting = Double(contender.groups.live().count)
    sample.hostProcesses = Double(table.ofUsers.count)
    sample.wardenProcesses = Double(tree.count)
    sample.cgroups = Double(contender.groups.count())
    sample.dyingCgroups = Double(contender.groups.dying() ?? 0)
    sample.memoryCgroups = Self.memoryCgroups() ?? .nan
    sample.mounts = Double(ProcFile.text("/proc/\(warden)/mountinfo")?.split(separator: "\n").count ?? 0)
    let descriptors = try ProcFile.numbers(in: "/proc/\(warden)/fd").map { ProcFile.link("/proc/\(warden)/fd/\($0)") }
    sample.keptNetworks = Double(descriptors.count { $0?.hasPrefix("net:[") ?? false })
    sample.wardenDescriptors = Double(descriptors.count) - sample.keptNetworks
    sample.workerDescriptors = Double(try ProcFile.numbers(in: "/proc/self/fd").count)
    sample.uids = Double(Set(tree.compactMap(Self.user)).subtracting([geteuid()]).count)
    sample.networks = Double(Set(table.processes.keys.compactMap { ProcFile.link("/proc/\($0)/ns/net") }).count)
    sample.networkObjects = Self.slabObjects("net_namespace") ?? .nan
    (sample.wardenResident, sample.wardenPrivate) = try Self.memory(of: warden)
    (sample.workerResident, sample.workerPrivate) = try Self.memory(of: getpid())
    let memory = ProcFile.text("/proc/meminfo") ?? ""
    sample.available = Double(ProcFile.value("MemAvailable", in: memory) ?? 0) / 1024
    sample.kernel = Double(ProcFile.value("SUnreclaim", in: memory) ?? 0) / 1024
    return sample
  }

  private static func memory(of process: Int32) throws -> (resident: Double, unshared: Double) {
    guard let status = ProcFile.text("/proc/\(process)/status"), let resident = ProcFile.value("VmRSS", in: status),
      let unshared = WaitingCells.privateMiB(of: process)
    else { throw BenchError("memory of process \(process) cannot be read") }
    return (Double(resident) / 1024, unshared)
  }

  private static func user(_ process: Int32) -> UInt32? {
    ProcFile.text("/proc/\(process)/status").flatMap { ProcFile.value("Uid", in: $0) }.map { UInt32($0) }
  }

  /// Third column of the line `memory hierarchy groups enabled`.
  private static func memoryCgroups() -> Double? {
    let line = ProcFile.text("/proc/cgroups")?.split(separator: "\n").first { $0.hasPrefix("memory\t") }
    return line?.split(separator: "\t").dropFirst(2).first.flatMap { Double($0) }
  }

  private static func slabObjects(_ cache: String) -> Double? {
    let line = ProcFile.text("/proc/slabinfo")?.split(separator: "\n").first { $0.hasPrefix(cache + " ") }
    return line?.split(separator: " ").dropFirst().first.flatMap { Double($0) }
  }
}
