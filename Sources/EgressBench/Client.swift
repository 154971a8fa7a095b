import BenchReport
import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

// Who asks: all connections of a measurement are on one thread, as those of a job with one event loop are. Times are taken on that
// thread, when the kernel is given the first byte of a request and when the last of its answer has been decrypted.

/// Opens connections to the bench's server by any way.
struct Client: Sendable {
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let context: NIOSSLContext

  /// - Parameter certificate: the server's, the only one that is believed.
  init(certificate: String) throws {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(certificate))
    context = try NIOSSLContext(configuration: configuration)
  }

  /// Returns when the TLS handshake is over.
  func connect(by way: Way) async throws -> Talk {
    let loop = group.next()
    let ready = loop.makePromise(of: Double.self)
    let begin = microseconds()
    do {
      let (channel, conversation) = try await ClientBootstrap(group: loop)
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: way.port)) { [context] channel in
          channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            if let target = way.tunnel {
              try pipeline.addHandler(TunnelRequest(target, context, ready))
            } else {
              try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: ServerCommand.name))
            }
            let conversation = Conversation(ready)
            try pipeline.addHandler(conversation)
            return (channel, NIOLoopBound(conversation, eventLoop: channel.eventLoop))
          }
        }
      let end = try await ready.futureResult.get()
      return Talk(handshake: end - begin, channel: channel, conversation: conversation)
    } catch {
      // Nobody else gives an answer where the channel never became active.
      ready.fail(error)
      throw BenchError("\(way.name): no connection: \(error)")
    }
  }

  func close() async { try? await group.shutdownGracefully() }
}

/// An open connection, with one thing under way at a time.
struct Talk: Sendable {
  /// Microseconds from the call of connect to the end of the TLS handshake.
  let handshake: Double
  fileprivate let channel: any Channel
  fileprivate let conversation: NIOLoopBound<Conversation>

  /// Microseconds that each of `count` requests took, one after another.
  func echoes(_ count: Int) async throws -> [Double] {
    try await channel.eventLoop.flatSubmit { conversation.value.begin(.echo(left: count)) }.get()
  }

  func receive(_ bytes: Int) async throws {
    _ = try await channel.eventLoop.flatSubmit { conversation.value.begin(.stream(left: bytes)) }.get()
  }

  func close() async { try? await channel.close() }
}

/// Asks a proxy for a tunnel, begins TLS in it, and leaves the pipeline.
private final class TunnelRequest: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let target: String
  private let tls: NIOSSLContext
  private let ready: EventLoopPromise<Double>
  private var answer = ""

  init(_ target: String, _ tls: NIOSSLContext, _ ready: EventLoopPromise<Double>) {
    self.target = target
    self.tls = tls
    self.ready = ready
  }

  func channelActive(context: ChannelHandlerContext) {
    let request = ByteBuffer(string: "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\n\r\n")
    context.writeAndFlush(wrapOutboundOut(request), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    answer += String(buffer: unwrapInboundIn(data))
    guard answer.hasSuffix("\r\n\r\n") else { return }
    do {
      guard answer.hasPrefix("HTTP/1.1 200 ") else {
        throw BenchError("CONNECT was answered with \(answer.prefix(80))")
      }
      let pipeline = context.pipeline.syncOperations
      try pipeline.addHandler(
        NIOSSLClientHandler(context: tls, serverHostname: ServerCommand.name), position: .after(self))
      pipeline.removeHandler(context: context, promise: nil)
    } catch {
      ready.fail(error)
      context.close(promise: nil)
    }
  }
}

/// Asks and counts inside TLS.
private final class Conversation: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum Work {
    case echo(left: Int)
    case stream(left: Int)
  }

  private let ready: EventLoopPromise<Double>
  private var context: ChannelHandlerContext?
  private var work: Work?
  private var done: EventLoopPromise<[Double]>?
  private var latencies: [Double] = []
  private var begin = 0.0
  private var missing = 0

  init(_ ready: EventLoopPromise<Double>) { self.ready = ready }

  func begin(_ work: Work) -> EventLoopFuture<[Double]> {
    guard let context, context.channel.isActive else { preconditionFailure("only an open connection is asked") }
    let done = context.eventLoop.makePromise(of: [Double].self)
    self.done = done
    self.work = work
    latencies = []
    switch work {
    case .echo: ask(context)
    case .stream(let left): say(Message(.stream(left)), context)
    }
    return done.futureResult
  }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }
  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted = event { ready.succeed(microseconds()) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let count = unwrapInboundIn(data).readableBytes
    switch work {
    case .stream(let left):
      work = .stream(left: left - count)
      if left == count { finish() }
    case .echo(let left):
      missing -= count
      guard missing == 0 else { return }
      latencies.append(microseconds() - begin)
      work = .echo(left: left - 1)
      if left > 1 { ask(context) } else { finish() }
    case nil: fail(BenchError("the server said something unasked"))
    }
  }

  func channelInactive(context: ChannelHandlerContext) { fail(BenchError("the connection ended meanwhile")) }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    fail(error)
    context.close(promise: nil)
  }

  private func ask(_ context: ChannelHandlerContext) {
    missing = Message.size
    begin = microseconds()
    say(Message(.echo), context)
  }

  private func say(_ message: Message, _ context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(message.bytes), promise: nil)
  }

  private func finish() {
    work = nil
    done?.succeed(latencies)
    done = nil
  }

  private func fail(_ error: any Error) {
    ready.fail(error)
    done?.fail(error)
    done = nil
  }
}
