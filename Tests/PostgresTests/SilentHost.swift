import Foundation
import Synchronization

@testable import Postgres

/// A TCP port of this host before a PostgreSQL's Unix socket, whose end can fall silent as a host that is switched off
/// does: what arrives is dropped by the kernel unseen, and not acknowledged.
final class SilentHost: Sendable {
  let port: UInt16
  private let listener: Int32
  private let client = Client()

  private final class Client: Sendable {
    let descriptor = Atomic<Int32>(-1)
  }

  /// - Parameter upstream: the directory of the server's socket; nil for a host that is silent from the first packet.
  init(before upstream: String?) throws {
    (listener, port) = try Self.listening()
    guard let upstream else {
      try Self.deafen(listener)
      return
    }
    Thread.detachNewThread { [listener, client] in
      while case let peer = accept(listener, nil, nil), peer >= 0 {
        client.descriptor.store(peer, ordering: .sequentiallyConsistent)
        guard let server = Self.connected(upstream + "/.s.PGSQL.5432") else { break }
        Thread.detachNewThread { Self.carry(peer, server) }
        Thread.detachNewThread { Self.carry(server, peer) }
      }
    }
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
  }

  /// From now on the last client is not heard.
  func fallSilent() throws { try Self.deafen(client.descriptor.load(ordering: .sequentiallyConsistent)) }

  /// A port whose handshakes the kernel completes, and nothing else.
  static func listening() throws -> (Int32, UInt16) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 4) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard bound else { throw PostgresError(.connection, "no listening socket: errno \(errno)") }
    return (descriptor, UInt16(bigEndian: address.sin_port))
  }

  /// `struct sock_fprog` of linux/filter.h, which Swift's C library does not show.
  private struct Program {
    var length: UInt16
    var instructions: UnsafeRawPointer
  }

  /// A socket filter whose one instruction, `ret #0`, takes nothing of any packet.
  private static func deafen(_ descriptor: Int32) throws {
    let status = withUnsafeBytes(of: UInt64(6)) {
      var program = Program(length: 1, instructions: $0.baseAddress!)
      return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, socklen_t(MemoryLayout<Program>.size))
    }
    guard status == 0 else { throw PostgresError(.connection, "no socket filter: errno \(errno)") }
  }

  private static func connected(_ path: String) -> Int32? {
    let server = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(server, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    return status == 0 ? server : nil
  }

  private static func carry(_ from: Int32, _ to: Int32) {
    var buffer = [UInt8](repeating: 0, count: 1 << 14)
    while case let count = recv(from, &buffer, buffer.count, 0), count > 0 {
      _ = send(to, buffer, count, Int32(MSG_NOSIGNAL))
    }
    shutdown(to, Int32(SHUT_WR))
  }
}
