import Foundation
import Jobs
import Synchronization
import TestKit
import Testing

/// The databases whose logins a worker makes are others' servers: one that hangs keeps nothing else from being done.
@Suite("Journey: an admin's database that does not answer", .serialized)
struct HangingAdminJourney {
  /// Takes connections, and says nothing.
  private final class HangingServer: Sendable {
    let port: UInt16
    private let listener: Int32
    private let count = Atomic<Int>(0)

    init() throws {
      listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let made = listener
      let isBound = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(made, $0, length) == 0 && listen(made, 16) == 0 && getsockname(made, $0, &length) == 0
        }
      }
      guard isBound else { throw Problem("no listening socket: errno \(errno)") }
      port = UInt16(bigEndian: address.sin_port)
      Thread.detachNewThread { [listener, self] in
        while accept(listener, nil, nil) >= 0 { self.count.add(1, ordering: .sequentiallyConsistent) }
      }
    }

    var accepted: Int { count.load(ordering: .sequentiallyConsistent) }
  }

  /// Each is waited for in turn, for as long as a connection may take: in all for longer than everything here.
  private static let admins = 9

  @Test("a job of a worker that died is taken up while they hang, and a worker leaves without waiting for them")
  func rescue() async throws {
    let server = try HangingServer()
    let house = try await House(slots: 1, options: ["--lease", "2s"])
    let job = try await house.tool.enqueue([
      "--runtime", "bash", "--code", "[ $CORDON_ATTEMPT = 1 ] && sleep 300; echo attempt $CORDON_ATTEMPT",
    ])
    _ = try await house.tool.wait(for: job) { $0["state"] == .string("running") }

    let directory = house.directory.path
    _ = FileManager.default.createFile(
      atPath: "\(directory)/admin-url", contents: Data("postgresql://admin@127.0.0.1:\(server.port)/jobs".utf8),
      attributes: [.posixPermissions: 0o600])
    let definitions = (1...Self.admins).map { number in
      """
      ledger\(number):
        tenants: [local]
        queues: [default]
        source: {postgres_role: {admin_url_file: \(directory)/admin-url, groups: [reader], prefix: cordon_hanging_}}

      """
    }
    let credentials = "\(directory)/credentials.yaml"
    try definitions.joined().write(toFile: credentials, atomically: true, encoding: .utf8)
    let next = try RunningTool(
      [
        "worker", "--data", directory + "/next", "--queue", "default", "--lease", "2s", "--database", house.worker,
        "--credentials", credentials,
      ], environment: ProcessInfo.processInfo.environment)
    try await eventually("the next worker waits for an admin's database", limit: .seconds(30)) { server.accepted > 0 }

    await house.up.signal(SIGKILL)
    let record = try await house.tool.wait(for: job, limit: .seconds(60)) { $0["state"] == .string("finished") }
    #expect(record["outcome"] == .string("succeeded"), "\(record) \(next.stderr)")
    #expect(
      record["attempts"]?.array?.compactMap { $0["outcome"]?.string } == ["lost", "succeeded"], "\(record)")
    next.signal(SIGTERM)
    _ = try await next.answer(limit: .seconds(60))
    print("the job was taken up and the worker left behind \(server.accepted) of \(Self.admins) admins that hang")
    #expect(server.accepted < Self.admins, "nobody has waited for the last of them")
    try house.stopPostgres()
    try FileManager.default.removeItem(at: house.directory)
  }
}
