import BenchReport
import Foundation
import Jobs
import Sandbox

// Cordon through its public interface, as a worker uses it. The clock of a latency sample starts when `Sandbox.run` is
// called and stops when the report is there and the output is drained: it includes the ways between the caller's task,
// which runs on the sandbox's thread, and the warden, and the end of the cell (killed, empty, counted). The stage, where a program
// needs a file, is written before, as the plain contender's file is. The cell's groups and mounts are taken down
// after the report; the sustained rate waits for that and for the refilling of the pool.

/// One kind of cell, with a warden of its own.
final class CordonContender: Contender {
  enum Kind: String, CaseIterable {
    /// Cells wait, ready built.
    case pool
    /// Every cell is built when it is asked for.
    case cold
    /// Cells wait with the interpreter started.
    case warmPython = "warm python"
    /// Cells wait with an interpreter that was forked from one that waits.
    case zygotePython = "zygote python"
  }

  let name: String
  let note = ""
  let limitsResources = true
  let sandbox: Sandbox
  let groups: CellGroups
  private let kind: Kind
  private let limits: Limits

  init(_ kind: Kind, place: CordonPlace, limits: Limits) async throws {
    self.kind = kind
    self.limits = limits
    name = "cordon \(kind.rawValue)"
    sandbox = try await Sandbox.start(Self.configuration(kind, place: place))
    groups = try CellGroups(warden: sandbox.facts.wardenProcessID)
  }

  var wardens: [Int32] { [sandbox.facts.wardenProcessID] }

  func offers(_ program: Program) -> Bool {
    switch kind {
    case .pool, .cold: ![.importedAlready, .forked].contains(program)
    case .warmPython: program == .script || program == .importedAlready
    case .zygotePython: program == .script || program == .forked
    }
  }

  func run(_ program: Program, slot: Int) async throws -> Latency {
    let stage = try Self.stage(program, of: sandbox)
    defer { stage?.remove() }
    let request = Self.request(program, kind: kind, stage: stage, limits: limits)
    // As a worker's attempts do.
    let (begin, started, end, report) = try await withTaskExecutorPreference(sandbox.executor) {
      let begin = microseconds()
      let cell = try await sandbox.run(request)
      let started = microseconds()
      for await _ in cell.output {}
      let report = try await cell.report()
      return (begin, started, microseconds(), report)
    }
    guard report.facts.outcome == .succeeded else {
      throw BenchError("\(name): \(program.name) ended as \(report.facts.outcome.name)")
    }
    return Latency(started: started - begin, total: end - begin)
  }

  func runs(_ program: Program, slot: Int, while wanted: @escaping @Sendable () -> Bool) async throws -> Int {
    var count = 0
    while wanted() {
      _ = try await run(program, slot: slot)
      count += 1
    }
    return count
  }

  /// Starts a cell that stays until it is stopped.
  func start(_ program: Program) async throws -> RunningCell {
    var limits = limits
    limits.wallMilliseconds = 3_600_000
    let stage = try Self.stage(program, of: sandbox)
    return try await sandbox.run(Self.request(program, kind: kind, stage: stage, limits: limits))
  }

  func prepared() throws -> Int { groups.live().count }

  /// Groups of used cells are those without a process: a waiting cell has one. A pool that has learnt meanwhile that fewer
  /// are asked for gives some up, and then stays as it is for longer than it takes to refill one that is wanted.
  @discardableResult
  func settle(prepared: Int) async throws -> ContinuousClock.Instant {
    let deadline = ContinuousClock.now + Self.patience
    var (seen, since) = (-1, ContinuousClock.now)
    while true {
      let leftovers = groups.leftovers()
      let live = groups.live().count
      let now = ContinuousClock.now
      if !leftovers.isEmpty || live != seen { (seen, since) = (live, now) }
      if leftovers.isEmpty, live >= prepared || now - since > Self.rest { return since }
      guard now < deadline else {
        let what = leftovers.first.map { "group \($0) is empty and still there" } ?? "\(live) of \(prepared) cells wait"
        throw BenchError("\(name): not settled within \(Self.patience): \(what)")
      }
      try await Task.sleep(for: .milliseconds(1))
    }
  }

  private static let rest = Duration.milliseconds(300)

  func close() async { await sandbox.shutdown() }

  private static let patience = Duration.seconds(30)
}

/// Where the sandboxes of one benchmark lie.
struct CordonPlace: Sendable {
  var scratch: String
  var wardenPath: String
  /// Most cells that wait.
  var pool = slots

  /// The warden of the same build, beside this executable.
  init(scratch: String) throws {
    guard let own = ProcFile.link("/proc/self/exe"), let slash = own.lastIndex(of: "/") else {
      throw BenchError("/proc/self/exe cannot be read")
    }
    self.scratch = scratch
    wardenPath = "\(own[..<slash])/cordon-warden"
    guard access(wardenPath, X_OK) == 0 else {
      throw BenchError("\(wardenPath) is missing; swift build -c release --product cordon-warden makes it")
    }
  }

  func directory(_ kind: CordonContender.Kind) -> String {
    scratch + "/cordon-" + kind.rawValue.replacingOccurrences(of: " ", with: "-")
  }
}

// MARK: - What depends on how cells are asked for

extension CordonContender {
  private static func configuration(_ kind: Kind, place: CordonPlace) -> SandboxConfiguration {
    let directory = place.directory(kind)
    return SandboxConfiguration(
      wardenPath: place.wardenPath, stateDirectory: directory + "/state", approvedRoot: directory + "/approved",
      pool: kind == .cold ? 0 : place.pool)
  }

  private static func stage(_ program: Program, of sandbox: Sandbox) throws -> Stage? {
    guard let script = program.script else { return nil }
    let stage = try sandbox.stage()
    do {
      _ = try stage.writeJobFile(name: "main.py", bytes: Array(script.utf8), executable: false)
      return stage
    } catch {
      stage.remove()
      throw error
    }
  }

  private static func request(_ program: Program, kind: Kind, stage: Stage?, limits: Limits) -> CellRequest {
    let warm: WarmRuntime? =
      switch kind {
      case .pool, .cold: nil
      case .warmPython: .python(imports: Program.imports)
      case .zygotePython: .forkedPython(imports: Program.imports)
      }
    return CellRequest(
      stage: stage, argv: program.arguments, environment: Program.environment, limits: limits, warm: warm)
  }
}
