import Foundation
import Postgres
import TestKit

/// A database's superuser.
struct Connecting {
  private let pool: Pool

  init(_ url: String) async throws { pool = Pool(ConnectionSettings(url), maximum: 1) }

  func run(_ script: String) async throws {
    for text in script.split(separator: ";") {
      _ = try await pool.query(Statement(name: "as superuser \(text.hashValue)", sql: String(text)), [])
    }
  }

  func column(_ sql: String) async throws -> [Int32] {
    try await pool.query(Statement(name: "look", sql: sql), []).map { try $0.get(at: 0, as: Int32.self) }
  }
}

/// A server that answers nobody any more: it and every session of a house's worker stand still.
final class Silence: Sendable {
  private let house: House
  private let stopped = Stopped()

  init(of house: House) throws { self.house = house }

  func begin() async throws {
    let boss = try await Connecting(house.superuser)
    let sessions = try await boss.column("SELECT pid FROM pg_stat_activity WHERE usename = 'cordon_local_worker'")
    guard let first = sessions.first,
      let status = try? String(contentsOfFile: "/proc/\(first)/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("PPid:") }),
      let server = Int32(line.dropFirst(5).trimmingCharacters(in: .whitespaces))
    else { throw Problem("no session of the worker") }
    // The server first: a worker whose sessions hang opens another one.
    for process in [server] + sessions { kill(process, SIGSTOP) }
    stopped.add([server] + sessions)
  }

  func end() { stopped.goOn() }
}

private final class Stopped: @unchecked Sendable {
  private let lock = NSLock()
  private var processes: [Int32] = []

  func add(_ more: [Int32]) { lock.withLock { processes += more } }

  func goOn() {
    lock.withLock {
      for process in processes { kill(process, SIGCONT) }
      processes = []
    }
  }
}
