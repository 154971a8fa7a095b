import Foundation
import Jobs
import Postgres
import TestKit
import Testing

@Suite("Journey: a control that stops holding while a worker serves", .serialized)
struct CanaryJourney {
  @Test("OP-03: it drains with the reason, lets finish what runs, claims no more, and its process fails")
  func brokenMounts() async throws {
    let house = try await House(slots: 1)
    let watched = try await WatchedWorker(house, queue: "watched")
    let before = try await house.tool.enqueue(["--queue", "watched", "--", "/usr/bin/sleep", "8"])
    _ = try await house.tool.wait(for: before) { $0["state"] == .string("running") }
    // Several canaries have come and gone by now.
    try await Task.sleep(for: .seconds(3))
    #expect(watched.process.isRunning, "\(watched.tool.stderr)")

    try watched.makeSystemWritable()
    var row: JSONValue?
    for _ in 0..<200 where row?["state"] != .string("drained") {
      try await Task.sleep(for: .milliseconds(100))
      row = try await watched.row()
    }
    #expect(row?["state"] == .string("drained"), "\(watched.tool.stderr)")
    #expect(row?["drained_reason"]?.string?.hasPrefix("mounts: /usr is not ") == true, "\(row as Any)")
    #expect(row?["drained_at"]?.string?.isEmpty == false)
    let after = try await house.tool.enqueue(["--queue", "watched", "--", "/usr/bin/true"])

    let answer = try await watched.tool.answer(limit: .seconds(60))
    #expect(answer.status == 3)
    let last = answer.stderr.split(separator: "\n").last ?? ""
    #expect(last.hasPrefix("cordon: a control stopped holding") && last.contains("mounts: /usr is not "), "\(last)")
    #expect(last.contains("(fix: "))
    #expect(try await house.tool.show(before)["outcome"] == .string("succeeded"))
    #expect(try await house.tool.show(after)["state"] == .string("queued"))

    // The row stays, and the other worker of this host, with a warden of its own, has lost nothing.
    #expect(try await watched.row()?["state"] == .string("drained"))
    let other = try await house.tool.record(of: ["--", "/usr/bin/true"])
    #expect(other.record["outcome"] == .string("succeeded"))
    let workers = try await house.tool.run(["workers"])
    #expect(workers.text.contains("drained") && workers.text.contains("serving"), "\(workers.text)")
    watched.remove()
    try await house.close()
  }

  @Test("OP-03: a canary that cannot run shows that nothing is known to hold: it drains, too")
  func noCell() async throws {
    let house = try await House(slots: 1)
    let watched = try await WatchedWorker(house, queue: "watched")
    // Nothing can be staged any more, as on a disk that fails.
    try FileManager.default.removeItem(at: watched.data.appending(path: "worker/stages"))
    let answer = try await watched.tool.answer(limit: .seconds(60))
    #expect(answer.status == 3)
    let last = answer.stderr.split(separator: "\n").last ?? ""
    #expect(last.hasPrefix("cordon: a control stopped holding"), "\(answer.stderr)")
    let row = try await watched.row()
    #expect(row?["state"] == .string("drained") && row?["drained_reason"]?.string.map { last.contains($0) } == true)
    watched.remove()
    try await house.close()
  }
}

/// A second worker of a house, on a queue of its own, that looks from inside every second.
private struct WatchedWorker {
  let house: House
  let tool: RunningTool
  let data: URL
  var process: Child { tool.process }

  init(_ house: House, queue: String) async throws {
    self.house = house
    data = house.directory.appending(path: "watched")
    let pool = Pool(ConnectionSettings(house.superuser), maximum: 1)
    let statement = Statement(name: "add_queue", sql: "select cordon.add_queue($1) is null")
    _ = try await pool.query(statement, [Parameter(queue)])
    await pool.close()
    let tool = try Tool(url: house.worker).start([
      "worker", "--queue", queue, "--slots", "1", "--name", "watched", "--data", data.path, "--canary-interval", "1s",
    ])
    self.tool = tool
    try await eventually("the worker serves", limit: .seconds(60)) { tool.stderr.contains("serving") }
  }

  /// What the database says of it.
  func row() async throws -> JSONValue? {
    let rows = try await house.tool.run(["workers", "--json"]).json().array
    return rows?.first { $0["name"] == .string("watched") }
  }

  /// Lifts the read-only mark from /usr in the mount namespaces that this worker's warden holds, the one that its cells are
  /// copies of among them. The host's own /usr, and every other warden's, stays as it is.
  func makeSystemWritable() throws {
    let script = """
      import ctypes, os, sys
      libc = ctypes.CDLL(None, use_errno=True)
      CLONE_NEWNS, MS_REMOUNT, MS_BIND = 0x20000, 32, 4096
      warden = f"/proc/{sys.argv[1]}/fd"
      held = [f"{warden}/{number}" for number in os.listdir(warden)]
      held = [os.open(path, os.O_RDONLY) for path in held if os.readlink(path).startswith("mnt:")]
      for namespace in held:
        if libc.setns(namespace, CLONE_NEWNS) or libc.mount(None, b"/usr", None, MS_REMOUNT | MS_BIND, None):
          sys.exit(os.strerror(ctypes.get_errno()))
      """
    let breaking = Process()
    breaking.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
    breaking.arguments = ["-c", script, String(try warden())]
    try breaking.run()
    breaking.waitUntilExit()
    guard breaking.terminationStatus == 0 else { throw Problem("the warden's /usr could not be remounted") }
  }

  private func warden() throws -> pid_t {
    let tasks = "/proc/\(process.processIdentifier)/task"
    for task in try FileManager.default.contentsOfDirectory(atPath: tasks) {
      let children = (try? String(contentsOfFile: "\(tasks)/\(task)/children", encoding: .utf8)) ?? ""
      for child in children.split(separator: " ").compactMap({ pid_t($0) }) {
        let name = try? String(contentsOfFile: "/proc/\(child)/comm", encoding: .utf8)
        if name?.hasPrefix("cordon-warden") == true { return child }
      }
    }
    throw Problem("the worker has no warden")
  }

  func remove() { try? FileManager.default.removeItem(at: data) }
}
