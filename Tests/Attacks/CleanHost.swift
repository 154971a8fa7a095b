import Foundation
import Jobs
import TestKit

// What a house leaves on its host is looked at while it is idle: between two rounds no job and no neighbour runs. A
// warden may keep cells waiting for jobs; those are told from leftovers by what they execute, a program of ours in
// memory, and by their groups, which have a process in them. The youngest groups may wait for a cell.

/// What one house has on the host at one moment.
struct CleanHost: Sendable {
  let house: AttackHouse
  let warden: pid_t
  private let descriptors: Int
  private let mounts: Int
  private let cells: Int
  private let files: Set<String>
  private let objects: Set<String>

  /// Time after which nothing of a job may be left.
  static let limit = Duration.seconds(5)

  /// The idle house before the first attack.
  init(_ house: AttackHouse) async throws {
    self.house = house
    guard let warden = house.wardens().min() else { throw Problem("the house has no warden") }
    self.warden = warden
    // The cells of the worker's own test of its host go in their own time.
    let end = ContinuousClock.now + Duration.seconds(10).patiently
    var (seen, times): ([Int], Int) = ([], 0)
    while times < 4, ContinuousClock.now < end {
      try await Task.sleep(for: .milliseconds(250))
      let now = [
        Self.descriptors(of: warden), try Self.mounts(of: warden),
        Self.cells(of: warden, house.groups).reduce(0) { $0 + $1.names.count },
      ]
      times = now == seen ? times + 1 : 1
      seen = now
    }
    (descriptors, mounts, cells) = (seen[0], seen[1], seen[2])
    files = Self.files(house.directory)
    objects = Self.systemVObjects()
  }

  /// What is still there of jobs that had these uids, after at most five seconds.
  func problems(users: Set<UInt32>) async -> [String] {
    let end = ContinuousClock.now + Self.limit.patiently
    while true {
      let found = look(users)
      if found.isEmpty || ContinuousClock.now > end { return found }
      try? await Task.sleep(for: .milliseconds(50))
    }
  }

  private func look(_ users: Set<UInt32>) -> [String] {
    var problems: [String] = []
    for process in Self.processes() {
      guard let user = Self.user(of: process), users.contains(user) else { continue }
      let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/exe")) ?? ""
      // A process that is going has no program any more; it is seen again if it stays.
      // An ordinary user's worker, and its warden, have the uid of its jobs.
      if !program.hasPrefix("/memfd:cordon-cell"), !program.contains("/cordon-warden"),
        process != house.worker.process.processIdentifier
      {
        problems.append("process \(process) (\(program)) of uid \(user) is left: \(Self.state(of: process))")
      }
    }
    let groups = Self.cells(of: warden, house.groups)
    let kept = groups.first?.names.max { Self.serial($0) < Self.serial($1) }
    for (index, hierarchy) in groups.enumerated() {
      for name in hierarchy.names {
        let members =
          (try? String(contentsOfFile: hierarchy.path + "/" + name + "/cgroup.procs", encoding: .utf8)) ?? ""
        if members.isEmpty, name != kept { problems.append("group \(hierarchy.path)/\(name) is left") }
        if index > 0, !groups[0].names.contains(name) {
          problems.append("group \(hierarchy.path)/\(name) is half left")
        }
      }
    }
    let living = groups.reduce(0) { $0 + $1.names.count }
    // A waiting cell costs the warden some descriptors; nothing else may.
    let allowed = descriptors + max(0, living - cells) * 16
    let open = Self.descriptors(of: warden)
    if open > allowed { problems.append("the warden has \(open) descriptors, not \(allowed)") }
    if let now = try? Self.mounts(of: warden), now != mounts {
      problems.append("the warden has \(now) mounts, not \(mounts)")
    }
    let host = (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)) ?? ""
    if host.contains(house.directory) { problems.append("a mount of the house is left on the host") }
    for file in Self.files(house.directory).subtracting(files).sorted() {
      problems.append("\(file) is left")
    }
    for object in Self.systemVObjects().subtracting(objects).sorted() { problems.append("System V \(object) is left") }
    return problems
  }

  /// Files of the worker that come and go with attempts: stages, sockets, pending copies.
  private static func files(_ directory: String) -> Set<String> {
    var found: Set<String> = []
    for part in ["worker", "worker/stages", "artifacts/.pending"] {
      for name in names(in: directory + "/" + part) { found.insert(part + "/" + name) }
    }
    return found
  }

  /// Cells by hierarchy, the one that kills first.
  private static func cells(of warden: pid_t, _ base: String) -> [(path: String, names: [String])] {
    let mount = "/sys/fs/cgroup"
    let hybrid = FileManager.default.fileExists(atPath: mount + "/unified/cgroup.procs")
    let hierarchies = hybrid ? ["unified", "memory", "pids", "cpu"].map { "\(mount)/\($0)" } : [mount]
    return hierarchies.compactMap { hierarchy in
      let base = "\(hierarchy)/\(base)"
      guard let own = names(in: base).first(where: { $0.hasPrefix("warden-") && $0.contains("-\(warden)-") })
      else { return nil }
      let path = base + "/" + own
      let cells = names(in: path).filter {
        var isDirectory = ObjCBool(false)
        return FileManager.default.fileExists(atPath: path + "/" + $0, isDirectory: &isDirectory)
          && isDirectory.boolValue
      }
      return (path, cells)
    }
  }

  /// What it is doing there: name, state, parent, and where in the kernel it waits.
  private static func state(of process: pid_t) -> String {
    func file(_ name: String) -> String {
      ((try? String(contentsOfFile: "/proc/\(process)/\(name)", encoding: .utf8)) ?? "").trimmingCharacters(
        in: .whitespacesAndNewlines)
    }
    let wanted = ["Name", "State", "PPid", "NSpid", "Threads"]
    let lines = file("status").split(separator: "\n").filter { line in wanted.contains { line.hasPrefix($0 + ":") } }
    return (lines.map { $0.replacingOccurrences(of: "\t", with: " ") } + ["waits in " + file("wchan")])
      .joined(separator: ", ")
  }

  private static func serial(_ group: String) -> UInt64 { group.split(separator: "-").last.flatMap { UInt64($0) } ?? 0 }

  /// Whether groups of this warden are there, gone as it may be itself.
  static func hasGroups(_ warden: pid_t, _ base: String) -> Bool { !cells(of: warden, base).isEmpty }

  private static func mounts(of process: pid_t) throws -> Int {
    try String(contentsOfFile: "/proc/\(process)/mountinfo", encoding: .utf8).split(separator: "\n").count
  }

  /// Shared memory, semaphores and queues of the host that a job's uid owns.
  private static func systemVObjects() -> Set<String> {
    var found: Set<String> = []
    for kind in ["shm", "sem", "msg"] {
      let text = (try? String(contentsOfFile: "/proc/sysvipc/\(kind)", encoding: .utf8)) ?? ""
      for line in text.split(separator: "\n").dropFirst() {
        let numbers = line.split(separator: " ").map { UInt32($0) ?? 0 }
        let isJobs = numbers.contains { (0x7000_0000..<0x8000_0000).contains($0) }
        if isJobs, numbers.count > 1 { found.insert("\(kind) \(numbers[1])") }
      }
    }
    return found
  }

  /// Open in the warden, but for the empty network namespaces that wait for cells; those are 64 at most.
  private static func descriptors(of warden: pid_t) -> Int {
    let directory = "/proc/\(warden)/fd"
    let links = names(in: directory).map {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: directory + "/" + $0)) ?? ""
    }
    let networks = links.count { $0.hasPrefix("net:[") }
    return links.count - min(networks, 64)
  }

  static func processes() -> [pid_t] { names(in: "/proc").compactMap { pid_t($0) } }

  /// Real uid; nil when the process is gone.
  static func user(of process: pid_t) -> UInt32? {
    status(of: process, "Uid").flatMap { $0.split(separator: "\t").first }.flatMap { UInt32($0) }
  }

  /// Whether one of these is an ancestor.
  static func isBeneath(_ process: pid_t, _ ancestors: [pid_t]) -> Bool {
    var next = parent(of: process)
    while let one = next, one > 1 {
      if ancestors.contains(one) { return true }
      next = parent(of: one)
    }
    return false
  }

  static func parent(of process: pid_t) -> pid_t? { status(of: process, "PPid").flatMap { pid_t($0) } }
  static func name(of process: pid_t) -> String? { status(of: process, "Name") }

  /// A line of /proc/PID/status.
  static func status(of process: pid_t, _ field: String) -> String? {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8) else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix(field + ":\t") {
      return String(line.dropFirst(field.count + 2))
    }
    return nil
  }
}
