import Foundation
import Synchronization

// Theory of operation
//
// A proxy is a Unix socket that speaks to PostgreSQL's for one client: a worker, or the producers. Each connection has
// a thread that carries bytes both ways. Two things go wrong in it on demand. Held: bytes lie where they are, in both
// directions, as between hosts that cannot reach each other; nobody is told. And an answer lost: the server has
// executed a statement and said so, outside of any transaction, so it is committed; the bytes that say so are thrown
// away and the connection is closed on both sides.
//
// A session is known to be open once its first ReadyForQuery has passed; a handshake is no statement. ReadyForQuery is
// the last message of every answer, and its last byte tells whether a transaction is open (protocol 3.0, "Message
// Formats").

/// What stands between one client and PostgreSQL.
final class Proxy: Sendable {
  /// What a connection string names as its host.
  let directory: String
  private let upstream: String
  private let listener: Int32
  private let state = Mutex(State())

  private struct State {
    var isHeld = false
    /// Counts up whenever every connection is to be closed.
    var generation = 0
    var answersToLose = 0
    var lost = 0
    var isClosed = false
  }

  private static let socketName = ".s.PGSQL.5432"
  private static let readyForQuery: [UInt8] = [0x5A, 0, 0, 0, 5, 0x49]

  init(directory: String, upstream socketDirectory: String) throws {
    self.directory = directory
    upstream = socketDirectory + "/" + Self.socketName
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard try Self.withAddress(directory + "/" + Self.socketName, { bind(listener, $0, $1) }) == 0,
      listen(listener, 64) == 0
    else { throw FaultError("no socket in \(directory): \(String(cString: strerror(errno)))") }
    Thread.detachNewThread { [self] in accept() }
  }

  /// Bytes lie where they are until `release`.
  func hold() { state.withLock { $0.isHeld = true } }

  /// - Parameter cut: what was held up is lost with its connections, instead of arriving late.
  func release(cut: Bool) {
    state.withLock {
      $0.isHeld = false
      if cut { $0.generation += 1 }
    }
  }

  /// The next so many answers never arrive.
  func loseAnswers(_ count: Int) { state.withLock { $0.answersToLose = count } }

  /// Answers that were lost so far.
  var lost: Int { state.withLock { $0.lost } }

  func close() {
    state.withLock {
      $0.isClosed = true
      $0.isHeld = false
      $0.generation += 1
    }
    shutdown(listener, Int32(SHUT_RDWR))
  }

  private func accept() {
    while true {
      let client = Glibc.accept(listener, nil, nil)
      if client < 0 {
        if state.withLock({ $0.isClosed }) { break }
        usleep(10_000)
        continue
      }
      Thread.detachNewThread { [self] in serve(client) }
    }
    Glibc.close(listener)
  }

  private func serve(_ client: Int32) {
    defer { Glibc.close(client) }
    let generation = state.withLock { $0.generation }
    while state.withLock({ $0.isHeld && $0.generation == generation }) { usleep(20_000) }
    let server = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard server >= 0 else { return }
    defer { Glibc.close(server) }
    guard let connected = try? Self.withAddress(upstream, { connect(server, $0, $1) }), connected == 0 else { return }
    var isOpen = false
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      var ends = [
        pollfd(fd: client, events: Int16(POLLIN), revents: 0), pollfd(fd: server, events: Int16(POLLIN), revents: 0),
      ]
      let ready = poll(&ends, 2, 50)
      let (isHeld, isOver) = state.withLock { ($0.isHeld, $0.generation != generation) }
      if isOver { return }
      if isHeld {
        usleep(20_000)
        continue
      }
      guard ready > 0 else { continue }
      if ends[0].revents != 0, !carry(client, server, &buffer, { _ in true }) { return }
      if ends[1].revents != 0 {
        let passes = carry(server, client, &buffer) { bytes in
          guard bytes.suffix(Self.readyForQuery.count).elementsEqual(Self.readyForQuery) else { return true }
          guard isOpen else {
            isOpen = true
            return true
          }
          return state.withLock {
            guard $0.answersToLose > 0 else { return true }
            $0.answersToLose -= 1
            $0.lost += 1
            return false
          }
        }
        if !passes { return }
      }
    }
  }

  /// Carries what is there. False when the connection is over, or when `passes` says that the bytes are lost.
  private func carry(
    _ from: Int32, _ to: Int32, _ buffer: inout [UInt8], _ passes: (ArraySlice<UInt8>) -> Bool
  ) -> Bool {
    let count = recv(from, &buffer, buffer.count, 0)
    guard count > 0, passes(buffer[..<count]) else { return false }
    var sent = 0
    while sent < count {
      let more = buffer[sent..<count].withUnsafeBytes {
        send(to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard more > 0 else { return false }
      sent += more
    }
    return true
  }

  private static func withAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw FaultError("\(path) is too long for a socket")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }
}
