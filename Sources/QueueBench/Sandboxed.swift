import BenchReport
import Foundation
import Jobs
import Logging
import Postgres
import Sandbox
import Store
import Worker

// The whole of Cordon: the worker as `cordon worker` runs it, from a queue that is full to records that are durable,
// against the same cells of the same warden without a database, stage or outputs. Both run as many at once.

/// Jobs in cells against cells alone.
struct Sandboxed: Sendable {
  let server: QueueServer
  let plan: Plan
  /// A private directory; it is removed by whoever made it.
  let scratch: String
  let warden: String

  private static let slots = 8

  func run(into results: inout QueueResults) async throws {
    let home = CordonDatabase(server: server, name: "cordon_sandboxed")
    try await home.create()
    let sandbox = try await Sandbox.start(
      SandboxConfiguration(
        wardenPath: warden, stateDirectory: scratch + "/state", approvedRoot: scratch + "/approved", pool: Self.slots))
    do {
      for round in 0..<plan.rounds {
        for sandboxed in round.isMultiple(of: 2) ? [false, true] : [true, false] {
          try Interrupt.check()
          Progress.line("round \(round + 1) of \(plan.rounds): \(sandboxed ? "jobs in cells" : "cells")")
          let effort = try await sandboxed ? jobs(home, sandbox) : cells(sandbox)
          results.add(effort, sandboxed ? .sandboxed : .cells, "cordon", "\(Self.slots) at once")
        }
      }
    } catch {
      await sandbox.shutdown()
      throw error
    }
    await sandbox.shutdown()
  }

  private func cells(_ sandbox: Sandbox) async throws -> Effort {
    let share = plan.sandboxed / Self.slots
    let begin = microseconds()
    try await withThrowingTaskGroup { group in
      for _ in 0..<Self.slots {
        group.addTask {
          for _ in 0..<share { try await Self.cell(sandbox) }
        }
      }
      try await group.waitForAll()
    }
    return Effort(jobs: share * Self.slots, seconds: (microseconds() - begin) / 1e6)
  }

  private static func cell(_ sandbox: Sandbox) async throws {
    let request = CellRequest(stage: nil, argv: ["/usr/bin/true"], environment: [], limits: Limits())
    let report = try await withTaskExecutorPreference(sandbox.executor) {
      let cell = try await sandbox.run(request)
      for await _ in cell.output {}
      return try await cell.report()
    }
    report.discardOutputs()
    guard report.facts.outcome == .succeeded else { throw BenchError("a cell ended as \(report.facts.outcome.name)") }
  }

  private func jobs(_ home: CordonDatabase, _ sandbox: Sandbox) async throws -> Effort {
    var queue = CordonQueue(home: home)
    queue.choice.bulk = plan.sandboxed
    _ = try await queue.fill(plan.sandboxed)
    let before = try await span(home, after: 0).token
    let pool = server.pool(home.name, user: CordonDatabase.worker, maximum: Self.slots + 3)
    let worker = try Worker(
      configuration: WorkerConfiguration(
        name: "bench", host: "localhost", build: Digest("sha256:" + String(repeating: "0", count: 64))!,
        slots: Self.slots, queues: [CordonDatabase.queue], approvedRoot: scratch + "/approved"),
      store: Store(pool: pool), sandbox: sandbox, stateDirectory: scratch + "/state",
      logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() })
    let serving = Task { try await worker.run() }
    let deadline = ContinuousClock.now + .seconds(600)
    var found = try await span(home, after: before)
    while found.jobs < plan.sandboxed, ContinuousClock.now < deadline, !Interrupt.isRequested {
      // Often enough for a short run, and too seldom to be felt.
      try await Task.sleep(for: .milliseconds(200))
      found = try await span(home, after: before)
    }
    await worker.drain()
    try await serving.value
    await pool.close()
    try Interrupt.check()
    guard found.jobs == plan.sandboxed, found.failed == 0 else {
      throw BenchError("\(found.jobs) of \(plan.sandboxed) jobs were recorded, \(found.failed) of them failed")
    }
    return Effort(jobs: found.jobs, seconds: found.seconds)
  }

  private func span(
    _ home: CordonDatabase, after token: Int64
  ) async throws -> (jobs: Int, seconds: Double, failed: Int, token: Int64) {
    try await server.asSuperuser(home.name) { connection in
      let rows = try connection.query(Statement(name: "span", sql: BenchSQL.text("span")), [Parameter(token)])
      guard let row = rows.first else { throw BenchError("no span") }
      return (try row.get("jobs"), try row.get("seconds"), try row.get("failed"), try row.get("token"))
    }
  }
}
