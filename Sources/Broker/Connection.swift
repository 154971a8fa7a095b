import Destinations
import Logging
import NIOCore
import NIOSSL
import Synchronization

// One connection of the job, from its acceptance to its end: one task, its wires, and its clocks. The task reads and writes; the clocks
// and the session's `cut` only ever end it, by aborting both wires, upon which every read and write of the task throws. The first reason
// that is given is the one that is recorded.

/// A connection of the job and, once it is allowed, the one to the server.
final class Connection: Sendable {
  let session: EgressSession
  let inside: Wire
  private let state: Mutex<State>

  private struct State {
    var outside: Wire?
    var reason: String?
    var lastByte = NIODeadline.now()
    var isOver = false
  }

  init(_ session: EgressSession, _ inside: Wire) {
    self.session = session
    self.inside = inside
    state = Mutex(State())
  }

  var loop: any EventLoop { inside.channel.eventLoop }
  var limits: SessionLimits { session.limits }
  var broker: Broker { session.broker }

  /// To the connection's end.
  /// - Parameter grant: whose door it came in by; nil for the door of CONNECT.
  func serve(at grant: Grant?) async {
    defer { session.hangUp() }
    do {
      try session.keep(inside)
      let total = loop.scheduleTask(in: TimeAmount(limits.total)) { self.abort("limit total: \(self.limits.total)") }
      defer { total.cancel() }
      watchIdle(in: TimeAmount(limits.idle))
      if let grant {
        try await serve(grant, port: grant.listenPort)
      } else {
        try await serveProxy()
      }
    } catch let denial as Denial {
      session.deny(denial, .init())
    } catch {
      session.broker.logger.debug("a connection ended", metadata: ["reason": "\(reason ?? Broker.words(error))"])
    }
    let outside = state.withLock { state in
      state.isOver = true
      return state.outside
    }
    if let outside { leave(outside) }
    inside.abort()
  }

  /// - Parameter port: which a client inside believes that it speaks to.
  func serve(_ grant: Grant, port: UInt16) async throws {
    switch grant.mode {
    case .tcp: try await tunnel(to: grant, first: nil)
    case .opaque:
      guard let hello = try await helloBytes(to: grant) else { return }
      try await tunnel(to: grant, first: hello)
    case .http:
      try await serveRequests(defaultPort: 80) { head throws(Denial) in try grant.judgeHost(of: head, port: port) }
    case .inspect:
      guard let hello = try await helloBytes(to: grant), let context = session.inspection?.context(for: grant) else {
        return
      }
      do {
        try await within(limits.head, "limit head: no TLS handshake") {
          try await inside.serveTLS(context, first: hello)
        }
      } catch {
        // Most often a client that was not told of the attempt's authority.
        let why = reason ?? Broker.words(error)
        throw Denial(rule: "grant \"\(grant.name)\": no TLS handshake with the job's client: \(why)")
      }
      try await serveRequests(defaultPort: 443) { head throws(Denial) in try grant.judgeHost(of: head, port: port) }
    }
  }

  // MARK: Reading what the client says first

  /// The bytes of a ClientHello that names the grant's host; nil where it does not, which is recorded.
  private func helloBytes(to grant: Grant) async throws -> ByteBuffer? {
    var bytes = ByteBuffer()
    let subject = LedgerLine.Subject(grant: grant.name, endpoint: grant.endpoint.description)
    func refuse(_ reason: String) -> ByteBuffer? {
      session.deny(Denial(rule: "grant \"\(grant.name)\": the ClientHello \(reason)"), subject)
      return nil
    }
    while true {
      switch ClientHello.read(Array(bytes.readableBytesView)) {
      case .refused(let reason): return refuse(reason)
      case .hello(let hello):
        guard Endpoint.Host.name(hello.serverName) == grant.host else {
          return refuse("names \(hello.serverName), and the grant \(grant.host)")
        }
        return bytes
      case .incomplete:
        let more: ByteBuffer?
        do {
          more = try await within(limits.head, "limit head: no whole ClientHello") { try await read(inside) }
        } catch {
          return refuse("did not come: \(reason ?? Broker.words(error))")
        }
        guard var more else {
          if let reason { return refuse("did not come: \(reason)") }
          return bytes.readableBytes == 0 ? nil : refuse("breaks off")
        }
        bytes.writeBuffer(&more)
      }
    }
  }

  /// The next request's head; nil where the client ended between two requests.
  ///
  /// - Parameter isFirst: then the clock runs from now, else from the head's first byte.
  func requestHead(isFirst: Bool, defaultPort: UInt16) async throws -> RequestHead? {
    var bytes: [UInt8] = []
    if !isFirst {
      guard let first = try await read(inside) else { return nil }
      bytes = Array(first.readableBytesView)
    }
    return try await within(limits.head, "limit head: no whole head of a request") {
      while true {
        switch RequestHead.read(bytes, defaultPort: defaultPort) {
        case .head(let head, let count):
          try await inside.unread(ByteBuffer(bytes: bytes[count...]))
          return head
        case .refused(let reason): throw Denial(rule: "the request has \(reason)", status: 400)
        case .incomplete:
          guard let more = try await read(inside) else {
            // Who says nothing until the attempt ends has asked for nothing.
            guard bytes.isEmpty, reason == nil || session.ended != nil else {
              throw Denial(rule: reason ?? "the request breaks off", status: 400)
            }
            return nil
          }
          bytes += more.readableBytesView
        }
      }
    }
  }

  // MARK: Wires

  func read(_ wire: Wire) async throws -> ByteBuffer? {
    let bytes = try await wire.read()
    touch()
    return bytes
  }

  func write(_ bytes: ByteBuffer, to wire: Wire) async throws {
    try await wire.write(bytes)
    touch()
  }

  /// A byte has moved: the connection is not idle.
  func touch() { state.withLock { $0.lastByte = .now() } }

  /// Nothing is begun for a connection that has been ended meanwhile.
  func allow(
    _ use: EgressAccount.Use, of grant: Grant, rule: String, _ subject: LedgerLine.Subject
  ) throws(Denial) {
    if let reason { throw Denial(rule: reason) }
    try session.allow(use, of: grant, rule: rule, subject)
  }

  /// Connects to the server, which is from here on ended with the connection.
  func dial(_ dialling: Dialling, of grant: Grant) async throws -> (Wire, IPAddress) {
    // From its first moment on, so that a cut does not wait for a server that does not answer.
    let (wire, address) = try await broker.connect(to: dialling, of: grant, on: loop, within: limits.connect) {
      [session] wire in try session.keep(wire)
    }
    let isOver = state.withLock { state in
      state.outside = wire
      return state.reason != nil
    }
    if isOver { wire.abort() }
    return (wire, address)
  }

  func leave(_ outside: Wire) {
    outside.abort()
    state.withLock { if $0.outside === outside { $0.outside = nil } }
  }

  // MARK: Ending it

  /// Why it was ended by the broker; nil where it was not.
  var reason: String? { state.withLock { $0.reason } ?? session.ended }

  func abort(_ reason: String) {
    // What breaks behind a cut breaks by the cut.
    let cause = session.ended ?? reason
    let outside = state.withLock { state in
      if state.reason == nil { state.reason = cause }
      return state.outside
    }
    inside.abort()
    outside?.abort()
  }

  func within<Value>(
    _ time: Duration, _ reason: String, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
  ) async throws -> Value {
    let alarm = loop.scheduleTask(in: TimeAmount(time)) { self.abort(reason) }
    defer { alarm.cancel() }
    return try await body()
  }

  private func watchIdle(in time: TimeAmount) {
    loop.scheduleTask(in: time) { [weak self] in
      guard let self else { return }
      let (last, isOver) = state.withLock { ($0.lastByte, $0.isOver || $0.reason != nil) }
      guard !isOver else { return }
      let left = last + TimeAmount(limits.idle) - .now()
      if left > .zero { watchIdle(in: left) } else { abort("limit idle: \(limits.idle) without a byte") }
    }
  }
}
