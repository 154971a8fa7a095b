import BenchReport
import CFloor
import Foundation
import Glibc
import Kernel

// What stands in the way. The kernel alone takes some time for fresh namespaces and groups, whoever asks for them: this
// contender has them made around the program and does nothing else, so that no sandbox with the same walls can be
// faster. It mounts nothing, gives nothing up, loads no filter, and looks at nothing but the exit status.

/// The program in fresh namespaces and groups with limits, as cheaply as the kernel gives them.
struct FloorContender: Contender {
  let name = "floor"
  let note: String
  let limitsResources = false
  let wardens: [Int32] = []

  /// One hierarchy: its group beneath ours, how a process gets in, and the limit.
  private struct Place {
    var parent: Descriptor
    var tasks: String?
    var limit: (file: String, value: String)?
  }

  private let places: [Place]
  private let paths: [String]
  private let serial = Serial()

  private final class Serial: @unchecked Sendable {
    private let lock = NSLock()
    private var value = 0
    func next() -> Int {
      lock.withLock {
        value += 1
        return value
      }
    }
  }

  init() throws {
    let own = "cordon-floor-\(getpid())"
    let layout = try CgroupLayout.ofHost(proc: try Descriptor.open("/proc", O_RDONLY | O_DIRECTORY))
    var found: [(path: String, tasks: String?, limit: (String, String)?)] = []
    switch layout {
    case .unified:
      // To enter a group there takes milliseconds, and to be cloned into one next to nothing: it is left out.
      note = "fresh namespaces alone: no wall inside"
    case .hybrid(_, let controllers):
      note = "fresh namespaces and limiting groups alone: no wall inside"
      let limits = [
        "memory": ("memory.limit_in_bytes", "268435456"), "pids": ("pids.max", "64"),
        "cpu": ("cpu.cfs_quota_us", "100000"),
      ]
      // Without the v2 group: to enter it from within costs milliseconds, and to be cloned into it next to nothing.
      for controller in CgroupLayout.required {
        guard let root = controllers[controller] else { throw BenchError("no hierarchy has \(controller)") }
        found.append(("\(root)/\(own)", "tasks", limits[controller]))
      }
    }
    paths = found.map(\.path)
    places = try found.map { place in
      mkdir(place.path, 0o755)
      return Place(
        parent: try Descriptor.open(place.path, O_RDONLY | O_DIRECTORY), tasks: place.tasks,
        limit: place.limit.map { (file: $0.0, value: $0.1) })
    }
  }

  func offers(_ program: Program) -> Bool { program == .nothing }

  func run(_ program: Program, slot: Int) async throws -> Latency { try runNow(program) }

  func runs(_ program: Program, slot: Int, while wanted: @escaping @Sendable () -> Bool) async throws -> Int {
    try await withCheckedThrowingContinuation { continuation in
      Thread {
        continuation.resume(
          with: Result {
            var count = 0
            while wanted() {
              _ = try runNow(program)
              count += 1
            }
            return count
          })
      }.start()
    }
  }

  private func runNow(_ program: Program) throws -> Latency {
    let name = "run-\(serial.next())"
    let strings = program.arguments.map { strdup($0) } + [nil]
    let variables = Program.environment.map { strdup("\($0.0)=\($0.1)") } + [nil]
    let texts = places.flatMap { [$0.tasks, $0.limit?.file, $0.limit?.value] }.map { $0.flatMap { strdup($0) } }
    defer { for text in strings + variables + texts { free(text) } }
    return try name.withCString { name in
      try strings.withUnsafeBufferPointer { arguments in
        try variables.withUnsafeBufferPointer { environment in
          var run = floor_run()
          run.name = name
          run.arguments = arguments.baseAddress
          run.environment = environment.baseAddress
          run.count = places.count
          withUnsafeMutableBytes(of: &run.groups) { bytes in
            let groups = bytes.bindMemory(to: floor_group.self)
            for (index, place) in places.enumerated() {
              groups[index] = floor_group(
                parent: place.parent.raw, tasks: texts[3 * index].map { UnsafePointer($0) },
                limit: texts[3 * index + 1].map { UnsafePointer($0) },
                value: texts[3 * index + 2].map { UnsafePointer($0) })
            }
          }
          let begin = microseconds()
          let status = floor_in(&run)
          let problem = errno
          let end = microseconds()
          while floor_remove(&run) != 0, errno == EBUSY { usleep(200) }
          guard status == 0 else {
            throw BenchError(
              "floor: \(program.name): \(status < 0 ? String(cString: strerror(problem)) : "status \(status)")")
          }
          return Latency(started: nil, total: end - begin)
        }
      }
    }
  }

  func prepared() throws -> Int { 0 }
  func settle(prepared: Int) async throws -> ContinuousClock.Instant { .now }
  func close() { for path in paths { rmdir(path) } }
}
