import BenchReport
import Foundation
import Glibc

// The peer: squid as a proxy for CONNECT, one process, in a directory of its own. It keeps no cache, asks no other proxy, and writes no
// log of accesses, though the broker records every connection: the difference is squid's gain. It allows the one host and port that the
// broker's grant names, and finds its address in a file, so that neither asks a name server.

/// A running squid.
final class Squid: Sendable {
  let port: Int
  let version: String
  private let process: Process

  /// Where Debian puts it; not everybody has that directory on PATH.
  private static let program = "/usr/sbin/squid"

  /// - Parameter directory: exists, is empty, and is removed by the caller after `end`.
  init(server: Int, in directory: String) async throws {
    guard access(Self.program, X_OK) == 0 else {
      throw BenchError("\(Self.program) is not installed (fix: apt-get install squid)")
    }
    version = try Self.version()
    port = try Self.freePort()
    let hosts = directory + "/hosts"
    try "127.0.0.1 \(ServerCommand.name)\n".write(toFile: hosts, atomically: true, encoding: .utf8)
    let configuration = directory + "/squid.conf"
    try """
    http_port 127.0.0.1:\(port)
    visible_hostname bench
    hosts_file \(hosts)
    acl tunnel method CONNECT
    acl server dstdomain \(ServerCommand.name)
    acl port port \(server)
    http_access allow tunnel server port
    http_access deny all
    cache deny all
    access_log none
    cache_log /dev/null
    cache_store_log none
    netdb_filename none
    pid_filename none
    pinger_enable off
    coredump_dir \(directory)

    """.write(toFile: configuration, atomically: true, encoding: .utf8)
    process = Process()
    process.executableURL = URL(fileURLWithPath: Self.program)
    process.arguments = ["-N", "-f", configuration]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    do {
      try await waitUntilItListens()
    } catch {
      end()
      throw error
    }
  }

  /// It has nothing to lose, and an orderly stop would wait for its clients.
  func end() {
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  private func waitUntilItListens() async throws {
    let last = ContinuousClock.now + .seconds(20)
    while try Self.socket(at: port, { connect($0, $1, $2) }) == nil {
      guard process.isRunning, ContinuousClock.now < last else {
        throw BenchError("squid does not listen (look: \(Self.program) -N -f FILE with cache_log stdio:/dev/stderr)")
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  private static func version() throws -> String {
    let (process, output) = (Process(), Pipe())
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = ["-v"]
    process.standardOutput = output
    try process.run()
    let said = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    let line = String(decoding: said, as: UTF8.self).split(whereSeparator: \.isNewline).first ?? ""
    return line.split(separator: " ").last.map(String.init) ?? "of unknown version"
  }

  /// Squid cannot be told to take any; this one was free a moment ago.
  private static func freePort() throws -> Int {
    guard let port = try socket(at: 0, { bind($0, $1, $2) }) else {
      throw BenchError("no free port on 127.0.0.1")
    }
    return port
  }

  /// The local port of a socket that `use` was done with, or nil where it failed; the socket is closed.
  private static func socket(
    at port: Int, _ use: (Int32, UnsafeMutablePointer<sockaddr>, socklen_t) -> Int32
  ) throws -> Int? {
    let descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw BenchError("socket: \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isDone = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        use(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    return isDone ? Int(UInt16(bigEndian: address.sin_port)) : nil
  }
}
