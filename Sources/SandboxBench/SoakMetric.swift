import BenchReport
import Jobs

/// One thing that must not grow, and how it is told from noise.
struct SoakMetric: Sendable {
  enum Rule: Sendable {
    /// None more at the end than at the start, except for what further waiting cells explain.
    case exact
    /// So many more are noise: others use it too, or the kernel is late.
    case within(Double)
    /// Flat from the second tenth of the run to its last one, by medians: at most so many MiB, or a twentieth, more.
    case flat(Double)
    /// The same, for what must not become less.
    case notLess(Double)
    /// Shown only.
    case none
  }

  enum Verdict: String {
    case flat
    case leak = "LEAK"
    case unreadable = "not readable"
    case none = ""
  }

  var name: String
  var unit: String
  var value: @Sendable (SoakSample) -> Double
  var rule: Rule

  static let all: [SoakMetric] = [
    SoakMetric(name: "cells waiting", unit: "", value: { $0.waiting }, rule: .none),
    SoakMetric(name: "processes of users on the host", unit: "", value: { $0.hostProcesses }, rule: .within(5)),
    SoakMetric(name: "processes of the warden", unit: "", value: { $0.wardenProcesses }, rule: .exact),
    SoakMetric(name: "cgroup directories, all hierarchies", unit: "", value: { $0.cgroups }, rule: .exact),
    SoakMetric(name: "dying cgroups (v2)", unit: "", value: { $0.dyingCgroups }, rule: .within(100)),
    SoakMetric(name: "memory cgroups in the kernel", unit: "", value: { $0.memoryCgroups }, rule: .within(100)),
    SoakMetric(name: "mounts of the warden", unit: "", value: { $0.mounts }, rule: .exact),
    SoakMetric(name: "descriptors of the warden", unit: "", value: { $0.wardenDescriptors }, rule: .exact),
    // As many as cells were ever at once, and 64 at most.
    SoakMetric(name: "empty networks kept by the warden", unit: "", value: { $0.keptNetworks }, rule: .within(64)),
    SoakMetric(name: "descriptors of the worker", unit: "", value: { $0.workerDescriptors }, rule: .exact),
    SoakMetric(name: "uids in use", unit: "", value: { $0.uids }, rule: .exact),
    SoakMetric(name: "network namespaces with a process", unit: "", value: { $0.networks }, rule: .within(5)),
    SoakMetric(name: "network namespaces in the kernel", unit: "", value: { $0.networkObjects }, rule: .within(64)),
    SoakMetric(name: "resident memory of the warden", unit: "MiB", value: { $0.wardenResident }, rule: .flat(1)),
    SoakMetric(name: "private memory of the warden", unit: "MiB", value: { $0.wardenPrivate }, rule: .flat(1)),
    SoakMetric(name: "resident memory of the worker", unit: "MiB", value: { $0.workerResident }, rule: .flat(1)),
    SoakMetric(name: "private memory of the worker", unit: "MiB", value: { $0.workerPrivate }, rule: .flat(1)),
    SoakMetric(name: "unreclaimable memory of the kernel", unit: "MiB", value: { $0.kernel }, rule: .flat(32)),
    SoakMetric(name: "available memory", unit: "MiB", value: { $0.available }, rule: .notLess(64)),
  ]

  static let rules = """
    Rules: the warden's processes, directories, mounts, descriptors and uids: none more at the end than before, but for
    what further waiting cells explain. Others use the host too, and the kernel is late: 5 more processes, 5 network
    namespaces with one, 100 groups and 64 namespaces in the kernel are noise. Memory of warden and worker: flat from
    the second tenth of the run to the last, by medians, within 1 MiB or a twentieth; of the kernel within 32 MiB;
    available memory 64 MiB less.
    """

  func verdict(_ soak: Soak) -> Verdict {
    guard let first = soak.samples.first, let last = soak.samples.last else { return .none }
    let (before, after) = (value(first), value(last))
    guard before.isFinite, after.isFinite else { return .unreadable }
    switch rule {
    case .none: return .none
    case .exact:
      let more = max(0, last.waiting - first.waiting)
      let each = first.waiting > 0 ? (before / first.waiting).rounded(.up) : 0
      return after <= before + more * each ? .flat : .leak
    case .within(let noise): return after <= before + noise ? .flat : .leak
    case .flat(let noise):
      let (early, late) = levels(soak)
      return late <= early + max(noise, early / 20) ? .flat : .leak
    case .notLess(let noise):
      let (early, late) = levels(soak)
      return late >= early - noise ? .flat : .leak
    }
  }

  /// Medians of the second and of the last tenth of the samples.
  func levels(_ soak: Soak) -> (early: Double, late: Double) {
    let values = soak.samples.map(value)
    let tenth = max(1, values.count / 10)
    let early = Array(values.dropFirst(tenth).prefix(tenth))
    return (early.median ?? values[0], Array(values.suffix(tenth)).median ?? values[0])
  }
}
