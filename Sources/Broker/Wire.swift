import NIOCore
import NIOSSL
import NIOTLS

// One end of a connection as a thing that is asked: nothing is read from the socket until somebody wants it, and a write is done when
// the kernel has taken it. Whoever reads from one wire and writes to the other before reading again holds one read of bytes at most;
// the rest waits in the sender, which is told so by TCP. At the end of input NIO reads what the kernel's buffer holds; that is the one
// moment at which there is more of it here, and no more than that buffer had.
//
// Order: the channel's initializer makes the wire on the channel's loop; a task then asks by `read` and `write`, one reader and one
// writer at a time. The end of input is nil, once; a break is thrown. `abort` may be called by anybody and ends both.

/// A channel that is read on demand.
final class Wire: Sendable {
  let channel: any Channel
  private let tap: NIOLoopBound<WireTap>

  /// Of one read from a socket.
  static let mostRead = 262_144
  private static let tls = "tls"

  /// On the channel's loop, before the channel is active.
  init(_ channel: any Channel) throws {
    let tap = WireTap(on: channel.eventLoop)
    try channel.pipeline.syncOperations.addHandler(tap)
    self.channel = channel
    self.tap = NIOLoopBound(tap, eventLoop: channel.eventLoop)
  }

  /// On the channel's loop, before the channel is active: the wire's bytes are those inside TLS.
  convenience init(_ channel: any Channel, client context: NIOSSLContext, host: String?) throws {
    try channel.pipeline.syncOperations.addHandler(
      NIOSSLClientHandler(context: context, serverHostname: host), name: Self.tls)
    try self.init(channel)
    tap.value.awaitsHandshake = true
  }

  func read() async throws -> ByteBuffer? {
    try await channel.eventLoop.flatSubmit { self.tap.value.next() }.get()
  }

  /// What was read too much is read again.
  func unread(_ bytes: ByteBuffer) async throws {
    guard bytes.readableBytes > 0 else { return }
    try await channel.eventLoop.submit { self.tap.value.putBack(bytes) }.get()
  }

  func write(_ bytes: ByteBuffer) async throws {
    try await channel.writeAndFlush(bytes)
  }

  /// Passes on whatever comes to a wire of the same loop, up to the end of input, and never leaves the loop for it.
  ///
  /// Meanwhile the channel reads by itself, so that its socket stays with the selector: to be asked for each piece costs two system calls
  /// more. It stops while the kernel of the other side has not taken a piece.
  ///
  /// - Parameters:
  ///   - judge: is given the count of a piece before it is passed on; what it throws ends the wire's reading.
  ///   - passed: is given the count once the kernel has taken the piece, or cannot.
  func pour(
    into target: Wire, judge: @escaping @Sendable (Int) throws -> Void,
    passed: @escaping @Sendable (Int, _ isTaken: Bool) -> Void
  ) async throws {
    precondition(target.channel.eventLoop === channel.eventLoop, "both wires of a connection are on one loop")
    try await channel.eventLoop.flatSubmit {
      self.tap.value.pour(into: target.channel, judge, passed)
    }.get()
  }

  func write(_ text: String) async throws {
    try await write(ByteBuffer(string: text))
  }

  /// The other end is told that nothing more comes, and may go on. Nothing, where the channel is over.
  func finish() async throws {
    do { try await channel.close(mode: .output) } catch ChannelError.alreadyClosed {}
  }

  /// Behind what was written.
  func close() async {
    try? await channel.close()
  }

  /// At once: what was not sent is dropped, and nobody waits for the other end's word, as TLS otherwise does.
  func abort() {
    channel.eventLoop.execute { [channel] in
      let pipeline = channel.pipeline.syncOperations
      if let context = try? pipeline.context(name: Self.tls) { context.close(mode: .all, promise: nil) }
      channel.close(mode: .all, promise: nil)
    }
  }

  func handshake() async throws {
    try await channel.eventLoop.flatSubmit { self.tap.value.handshake() }.get()
  }

  /// From here on the wire's bytes are those inside TLS, of which `bytes` were the first.
  func serveTLS(_ context: NIOSSLContext, first bytes: ByteBuffer) async throws {
    // The end of input is what TLS says it is.
    try await channel.setOption(.allowRemoteHalfClosure, value: false).get()
    try await channel.eventLoop.submit { [channel] in
      let pipeline = channel.pipeline.syncOperations
      self.tap.value.awaitsHandshake = true
      try pipeline.addHandler(NIOSSLServerHandler(context: context), name: Self.tls, position: .first)
      pipeline.fireChannelRead(NIOAny(bytes))
      pipeline.fireChannelReadComplete()
    }.get()
    try await handshake()
  }

  /// Looks for what comes unasked, the end above all, while nobody reads.
  func watch() async {
    try? await channel.eventLoop.submit { self.tap.value.watch() }.get()
  }

  /// Whether nothing has come since `watch`.
  func isQuiet() async -> Bool {
    (try? await channel.eventLoop.submit { self.tap.value.isQuiet }.get()) ?? false
  }
}

/// The last handler of a wire's pipeline.
private final class WireTap: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  var awaitsHandshake = false
  private let loop: any EventLoop
  private var context: ChannelHandlerContext?
  private var queue: [ByteBuffer] = []
  /// The end of input, or what broke.
  private var end: Result<ByteBuffer?, any Error>?
  private var reader: EventLoopPromise<ByteBuffer?>?
  private var shaking: EventLoopPromise<Void>?
  private var pouring: Pouring?

  /// Where everything goes that is read.
  private struct Pouring {
    let target: any Channel
    let judge: (Int) throws -> Void
    let passed: @Sendable (Int, Bool) -> Void
    let done: EventLoopPromise<Void>
    /// Pieces that the target's kernel has not taken yet.
    var untaken = 0
  }

  init(on loop: any EventLoop) {
    self.loop = loop
  }

  var isQuiet: Bool { queue.isEmpty && end == nil }

  func next() -> EventLoopFuture<ByteBuffer?> {
    precondition(reader == nil, "one reader at a time")
    let promise = loop.makePromise(of: ByteBuffer?.self)
    reader = promise
    // What came before the channel's end is still there behind it.
    deliver()
    if reader != nil, let context { ask(context) }
    return promise.futureResult
  }

  func pour(
    into target: any Channel, _ judge: @escaping (Int) throws -> Void, _ passed: @escaping @Sendable (Int, Bool) -> Void
  ) -> EventLoopFuture<Void> {
    precondition(reader == nil && pouring == nil, "one reader at a time")
    let done = loop.makePromise(of: Void.self)
    pouring = Pouring(target: target, judge: judge, passed: passed, done: done)
    readByItself(true)
    deliver()
    return done.futureResult
  }

  func putBack(_ bytes: ByteBuffer) { queue.insert(bytes, at: 0) }

  func watch() {
    if let context { ask(context) }
  }

  func handshake() -> EventLoopFuture<Void> {
    let promise = loop.makePromise(of: Void.self)
    if case .failure(let error) = end {
      promise.fail(error)
    } else if !awaitsHandshake {
      promise.succeed()
    } else if end != nil {
      promise.fail(ChannelError.eof)
    } else {
      shaking = promise
      if let context { ask(context) }
    }
    return promise.futureResult
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.success(nil))
    self.context = nil
  }

  func channelActive(context: ChannelHandlerContext) {
    if reader != nil || awaitsHandshake { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    queue.append(unwrapInboundIn(data))
    deliver()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    // A read of half a TLS record gives nothing to who waits.
    if reader != nil || awaitsHandshake { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case ChannelEvent.inputClosed, TLSUserEvent.shutdownCompleted: finish(.success(nil))
    case TLSUserEvent.handshakeCompleted:
      awaitsHandshake = false
      shaking?.succeed()
      shaking = nil
    default: break
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) { finish(.success(nil)) }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(.failure(error))
    context.close(mode: .all, promise: nil)
  }

  private func ask(_ context: ChannelHandlerContext) {
    if context.channel.isActive { context.read() }
  }

  private func finish(_ result: Result<ByteBuffer?, any Error>) {
    if end == nil { end = result }
    if let shaking {
      self.shaking = nil
      if case .failure(let error) = result { shaking.fail(error) } else { shaking.fail(ChannelError.eof) }
    }
    deliver()
  }

  private func deliver() {
    while pouring != nil, !queue.isEmpty { pass(queue.removeFirst()) }
    if let pouring, let end, pouring.untaken == 0 {
      self.pouring = nil
      pouring.done.completeWith(end.map { _ in })
    }
    guard let reader else { return }
    if !queue.isEmpty {
      self.reader = nil
      reader.succeed(queue.removeFirst())
    } else if let end {
      self.reader = nil
      reader.completeWith(end)
    }
  }

  private func pass(_ bytes: ByteBuffer) {
    guard let pouring else { return }
    let count = bytes.readableBytes
    do {
      try pouring.judge(count)
    } catch {
      return stopPouring(error)
    }
    self.pouring?.untaken += 1
    let taking = pouring.target.writeAndFlush(bytes)
    let tap = NIOLoopBound(self, eventLoop: loop)
    taking.whenComplete { [passed = pouring.passed] result in
      switch result {
      case .success:
        passed(count, true)
        tap.value.taken()
      case .failure(let error):
        passed(count, false)
        tap.value.stopPouring(error)
      }
    }
    if self.pouring?.untaken ?? 0 > 0 { readByItself(false) }
  }

  private func taken() {
    guard pouring != nil else { return }
    pouring?.untaken -= 1
    if pouring?.untaken == 0 {
      readByItself(true)
      deliver()
    }
  }

  private func stopPouring(_ error: any Error) {
    guard let pouring else { return }
    self.pouring = nil
    readByItself(false)
    pouring.done.fail(error)
  }

  /// A channel that is over reads nothing more, so it is no matter when it cannot be told.
  private func readByItself(_ value: Bool) {
    try? context?.channel.syncOptions?.setOption(.autoRead, value: value)
  }
}
