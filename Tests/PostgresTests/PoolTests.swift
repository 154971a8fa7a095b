import PrivateCluster
import TestKit
import Testing

@testable import Postgres

private let one = Statement(name: "one", sql: "SELECT 1 AS one")
private let process = Statement(name: "process", sql: "SELECT pg_backend_pid() AS pid")

/// Counts how many are inside at once.
private actor Gauge {
  private(set) var inside = 0
  private(set) var highest = 0
  private(set) var order: [Int] = []

  func enter(_ number: Int) {
    inside += 1
    highest = max(highest, inside)
    order.append(number)
  }

  func leave() { inside -= 1 }
}

@Suite(.database) struct PoolTests {
  @Test func neverMoreConnectionsThanTheMaximum() async throws {
    let pool = Database.current.pool(maximum: 3)
    let gauge = Gauge()
    try await withThrowingTaskGroup(of: Int.self) { group in
      for number in 0..<40 {
        group.addTask {
          try await pool.withConnection { connection in
            await gauge.enter(number)
            let pid: Int = try await connection.query(process)[0].get("pid")
            // Nobody leaves before all three are in use, which a slow connect would else prevent.
            while await gauge.highest < 3 { try await Task.sleep(for: .milliseconds(5)) }
            try await Task.sleep(for: .milliseconds(5))
            await gauge.leave()
            return pid
          }
        }
      }
      let processes = try await group.reduce(into: Set<Int>()) { $0.insert($1) }
      #expect(processes.count == 3)
    }
    #expect(await gauge.highest == 3)
    await pool.close()
  }

  @Test func whoWaitsIsServedInOrderOfArrival() async throws {
    let pool = Database.current.pool(maximum: 1)
    let gauge = Gauge()
    let (held, release) = AsyncStream<Void>.makeStream()
    let (holding, held1) = AsyncStream<Void>.makeStream()
    async let holder: Void = pool.withConnection { _ in
      held1.finish()
      for await _ in held {}
    }
    for await _ in holding {}
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<10 {
        group.addTask {
          try await pool.withConnection { _ in await gauge.enter(number) }
        }
        // Each is in line before the next comes.
        while await pool.waiting <= number { try await Task.sleep(for: .milliseconds(1)) }
      }
      #expect(await gauge.order.isEmpty)
      release.finish()
      try await group.waitForAll()
    }
    try await holder
    #expect(await gauge.order == Array(0..<10))
    await pool.close()
  }

  @Test func aCancelledWaiterLeavesTheLine() async throws {
    let pool = Database.current.pool(maximum: 1)
    let waited = try await pool.withConnection { _ in
      let waiter = Task { try await pool.query(one) }
      while await pool.waiting == 0 { try await Task.sleep(for: .milliseconds(1)) }
      let start = ContinuousClock.now
      waiter.cancel()
      let error = try await failure { _ = try await waiter.value }
      #expect(error.kind == .cancelled)
      return ContinuousClock.now - start
    }
    #expect(waited < .seconds(2))
    #expect(try await pool.query(one, deadline: .seconds(5)).count == 1)
    await pool.close()
  }

  @Test func aWaiterLeavesAtItsDeadline() async throws {
    let pool = Database.current.pool(maximum: 1)
    let error = try await pool.withConnection { _ in
      try await failure { _ = try await pool.query(one, deadline: .milliseconds(100)) }
    }
    #expect(error.kind == .deadline)
    #expect(!error.isConnectionLoss)
    await pool.close()
  }

  @Test func whatComesBackUncleanIsNotLentAgain() async throws {
    let pool = Database.current.pool(maximum: 1)
    func server() async throws -> Int { try await pool.query(process)[0].get("pid") }
    let first = try await server()
    #expect(try await server() == first)
    try await pool.withConnection { try await $0.execute(script: "BEGIN") }
    let second = try await server()
    #expect(second != first)
    try await pool.withConnection { try await $0.listen("c") }
    let third = try await server()
    #expect(third != second)
    try await pool.withConnection { await $0.close() }
    #expect(try await server() != third)
    await pool.close()
  }

  @Test func aTerminatedConnectionIsReplaced() async throws {
    let pool = Database.current.pool(maximum: 2)
    let victim: Int = try await pool.query(process)[0].get("pid")
    let admin = try await Database.current.connect()
    try await admin.query(Statement(name: "terminate", sql: "SELECT pg_terminate_backend($1)"), [Parameter(victim)])
    let alive = Statement(name: "alive", sql: "SELECT 1 FROM pg_stat_activity WHERE pid = $1")
    while try await !admin.query(alive, [Parameter(victim)]).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
    #expect(try await pool.query(process)[0].get("pid") != victim)
    await pool.close()
  }

  @Test func transactionsRunOnOneConnectionAndRollBack() async throws {
    let pool = Database.current.pool(maximum: 2)
    try await Database.current.execute("CREATE TABLE t (n int)")
    let sum = try await pool.transaction { connection -> Int in
      try connection.execute(script: "INSERT INTO t VALUES (20), (22)")
      return try connection.query(Statement(name: "sum", sql: "SELECT sum(n)::int AS s FROM t"))[0].get("s")
    }
    #expect(sum == 42)
    _ = try await failure {
      try await pool.transaction { connection in try connection.execute(script: "DELETE FROM t; SELECT 1/0") }
    }
    #expect(try await pool.query(statement("SELECT n FROM t")).count == 2)
    await pool.close()
  }

  @Test func aClosedPoolRefuses() async throws {
    let pool = Database.current.pool()
    try await pool.query(one)
    await pool.close()
    #expect(try await failure { _ = try await pool.query(one) }.kind == .closed)
  }

  @Test func anAbsentServerIsTriedUntilTheDeadlineAndNamed() async throws {
    let pool = Pool(ConnectionSettings("host=/nonexistent-socket-directory"), maximum: 2)
    let start = ContinuousClock.now
    let error = try await failure { _ = try await pool.query(one, deadline: .milliseconds(400)) }
    #expect(ContinuousClock.now - start >= .milliseconds(400))
    #expect(error.kind == .connection)
    #expect(error.message.contains("/nonexistent-socket-directory"))
    await pool.close()
  }

  @Test func whatRepeatingCannotHelpFailsAtOnce() async throws {
    let pool = Pool(ConnectionSettings(Database.current.cluster.url(database: "no_such_database")), maximum: 1)
    let start = ContinuousClock.now
    let error = try await failure { _ = try await pool.query(one) }
    #expect(error.sqlState == "3D000")
    #expect(ContinuousClock.now - start < .seconds(5))
    await pool.close()
  }
}
