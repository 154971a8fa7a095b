import Foundation
import Synchronization

// Theory of operation
//
// A proxy speaks to PostgreSQL's Unix socket for one client: for a worker at a TCP port in another network namespace, for
// the producers at a Unix socket. Each connection has a thread that carries bytes both ways. Two things go wrong in it on
// demand. All connections are given up, as by a host that is gone. And an answer is lost: the server has executed a
// statement and said so, outside of any transaction, so it is committed; the bytes that say so are thrown away and the
// connection is closed on both sides.
//
// A session is known to be open once its first ReadyForQuery has passed; a handshake is no statement. ReadyForQuery is
// the last message of every answer, and its last byte tells whether a transaction is open (protocol 3.0, "Message
// Formats").

/// What stands between one client and PostgreSQL.
final class Proxy: Sendable {
  /// Where its client finds it.
  enum Address: Sendable {
    case socket(directory: String)
    /// An IPv4 address in dots, of an interface in that namespace.
    case port(UInt16, of: String, in: NetworkNamespace)

    /// What a connection string names as its host.
    var host: String {
      switch self {
      case .socket(let directory): directory
      case .port(_, let address, _): address
      }
    }

    var port: UInt16 {
      switch self {
      case .socket: 5432
      case .port(let port, _, _): port
      }
    }
  }

  let address: Address
  private let upstream: String
  private let listener: Int32
  private let state = Mutex(State())

  private struct State {
    /// Counts up whenever every connection is to be closed.
    var generation = 0
    var answersToLose = 0
    var lost = 0
    var isClosed = false
  }

  private static let socketName = ".s.PGSQL.5432"
  private static let readyForQuery: [UInt8] = [0x5A, 0, 0, 0, 5, 0x49]

  init(address: Address, upstream socketDirectory: String) throws {
    self.address = address
    upstream = socketDirectory + "/" + Self.socketName
    listener =
      switch address {
      case .socket(let directory): try Self.listener(in: directory)
      case .port(let port, let host, let namespace):
        // A socket is of the network it was made in, whoever uses it.
        try namespace.within { try Self.listener(at: host, port) }
      }
    Thread.detachNewThread { [self] in accept() }
  }

  /// Whether what listens in that directory is behind it.
  func leads(to socketDirectory: String) -> Bool { upstream == socketDirectory + "/" + Self.socketName }

  /// Gives every connection up.
  func cut() { state.withLock { $0.generation += 1 } }

  /// The next so many answers never arrive.
  func loseAnswers(_ count: Int) { state.withLock { $0.answersToLose = count } }

  /// Answers that were lost so far.
  var lost: Int { state.withLock { $0.lost } }

  func close() {
    state.withLock {
      $0.isClosed = true
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
    if case .port = address {
      // An answer is many small pieces; none is to wait for the acknowledgement of the one before.
      var on: Int32 = 1
      setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }
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
      if state.withLock({ $0.generation != generation }) { return }
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

  private static func listener(in directory: String) throws -> Int32 {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard try withAddress(directory + "/" + socketName, { bind(listener, $0, $1) }) == 0, listen(listener, 64) == 0
    else { throw FaultError("no socket in \(directory): \(String(cString: strerror(errno)))") }
    return listener
  }

  private static func listener(at host: String, _ port: UInt16) throws -> Int32 {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    let isUnderstood = inet_pton(AF_INET, host, &address.sin_addr) == 1
    let isBound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isUnderstood, isBound, listen(listener, 64) == 0
    else { throw FaultError("no socket at \(host):\(port): \(String(cString: strerror(errno)))") }
    return listener
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
