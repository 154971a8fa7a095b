import Destinations
import Foundation
import Glibc
import Jobs
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Testing

@testable import Broker

/// Names that are answered as the test says, and counted.
final class CountingResolver: NameResolver {
  let asked = Mutex<[String]>([])
  private let answer: @Sendable (Int) throws -> [String]

  /// - Parameter answer: addresses for the first question, the second, and so on.
  init(_ answer: @escaping @Sendable (Int) throws -> [String]) {
    self.answer = answer
  }

  convenience init(_ addresses: String...) { self.init { _ in addresses } }

  func addresses(of name: String) async throws -> [IPAddress] {
    let count = asked.withLock { asked in
      asked.append(name)
      return asked.count
    }
    return try answer(count).compactMap { IPAddress($0) }
  }

  var names: [String] { asked.withLock { $0 } }
  var count: Int { names.count }
}

/// The lines of a session, as they come.
final class Lines: Sendable {
  let all = Mutex<[LedgerLine]>([])

  var record: @Sendable (LedgerLine) -> Void { { line in self.all.withLock { $0.append(line) } } }
  var denials: [String] { all.withLock { $0.filter { $0.decision == .denied }.map(\.rule) } }
  var recorded: [LedgerLine] { all.withLock { $0 } }
  func of(_ decision: LedgerLine.Decision) -> [LedgerLine] { all.withLock { $0.filter { $0.decision == decision } } }
}

enum House {
  static let attempt = AttemptAddress(job: "job-1", attempt: 2, token: 7, tenant: "acme")

  static func grant(_ json: String, name: String = "packages") throws -> Grant {
    try Grant(name: name, json: JSONDecoder().decode(JSONValue.self, from: Data(json.utf8)))
  }

  /// A listening socket as the warden would hand it over, and its port.
  static func listener(backlog: Int32 = 128) throws -> (descriptor: Int32, port: UInt16) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        bind(descriptor, pointer, length) == 0 && listen(descriptor, backlog) == 0
          && getsockname(descriptor, pointer, &length) == 0
      }
    }
    try #require(status, "a listener")
    return (descriptor, UInt16(bigEndian: address.sin_port))
  }

  /// A connection that is begun, and perhaps never taken.
  static func knock(_ port: UInt16) -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    address.sin_port = port.bigEndian
    withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        _ = Glibc.connect(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    return descriptor
  }

  static func broker(_ resolver: some NameResolver, trust: String? = nil) throws -> Broker {
    try Broker(resolver: resolver, trust: trust.map { .file($0) } ?? .system, logger: Logger(label: "test"))
  }

  /// A client of the job, connected to a door.
  static func connect(_ port: UInt16, trusting: NIOSSLContext? = nil, host: String? = nil) async throws -> Wire {
    let wire = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelOption(.autoRead, value: false)
      .channelOption(.allowRemoteHalfClosure, value: trusting == nil)
      .connect(host: "127.0.0.1", port: Int(port)) { channel in
        channel.eventLoop.makeCompletedFuture {
          if let trusting { try Wire(channel, client: trusting, host: host) } else { try Wire(channel) }
        }
      }
    if trusting != nil { try await wire.handshake() }
    return wire
  }

  /// Waits for what other tasks bring about.
  static func until(_ what: String, _ condition: () -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(10)
    while !condition() {
      try #require(ContinuousClock.now < end, "\(what) within 10 s")
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  static func curl(_ arguments: String...) async throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
    process.arguments = ["-sS", "--max-time", "10"] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    return try await withCheckedThrowingContinuation { continuation in
      process.terminationHandler = { process in
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        continuation.resume(returning: (process.terminationStatus, output))
      }
      do { try process.run() } catch { continuation.resume(throwing: error) }
    }
  }
}

extension Wire {
  /// Until the other end has nothing more to say.
  func readAll() async throws -> String {
    var all = ByteBuffer()
    while var bytes = try await read() { all.writeBuffer(&bytes) }
    return String(buffer: all)
  }

  /// As many bytes, at least.
  func read(atLeast count: Int) async throws -> String {
    var all = ByteBuffer()
    while all.readableBytes < count, var bytes = try await read() { all.writeBuffer(&bytes) }
    return String(buffer: all)
  }

  /// A message with its end told by Content-Length, or its head alone where there is none.
  func readMessage() async throws -> String {
    var text = ""
    while let bytes = try await read() {
      text += String(buffer: bytes)
      guard let end = text.range(of: "\r\n\r\n") else { continue }
      let length = text.split(separator: "\r\n").first { $0.lowercased().hasPrefix("content-length: ") }
      let count = length.flatMap { Int($0.dropFirst("content-length: ".count)) } ?? 0
      if text[end.upperBound...].utf8.count >= count { return text }
    }
    return text
  }
}
