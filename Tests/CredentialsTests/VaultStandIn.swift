import Credentials
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization
import TestKit

/// A server that speaks as much of Vault's HTTP API as the source asks for, and keeps what it was asked.
final class VaultStandIn: Sendable {
  struct Answer: Sendable {
    var status: HTTPResponseStatus
    var body: String
    /// Said before the body: where to go instead.
    var location: String?
    /// Of the body, after which nothing more comes.
    var stopsAfter: Int?

    init(_ status: HTTPResponseStatus, _ body: String, location: String? = nil, stopsAfter: Int? = nil) {
      self.status = status
      self.body = body
      self.location = location
      self.stopsAfter = stopsAfter
    }
  }

  /// What is said from now on, and what was asked so far.
  private final class Script: Sendable {
    let answer = Mutex(Answer(.ok, "{}"))
    let heads = Mutex<[HTTPRequestHead]>([])
  }

  let address: String
  private let channel: any Channel
  private let script: Script

  var asked: [HTTPRequestHead] { script.heads.withLock { $0 } }

  func say(_ answer: Answer) { script.answer.withLock { $0 = answer } }

  /// - Parameter tls: paths of a certificate and its key.
  init(tls: (certificate: String, key: String)? = nil) async throws {
    let context = try tls.map { files in
      try NIOSSLContext(
        configuration: .makeServerConfiguration(
          certificateChain: NIOSSLCertificate.fromPEMFile(files.certificate).map { .certificate($0) },
          privateKey: .privateKey(NIOSSLPrivateKey(file: files.key, format: .pem))))
    }
    let script = Script()
    self.script = script
    channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let context { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context)) }
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Handler(script))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    address = "\(tls == nil ? "http" : "https")://127.0.0.1:\(channel.localAddress!.port!)"
  }

  func close() async throws { try await channel.close() }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let script: Script

    init(_ script: Script) { self.script = script }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard case .head(let head) = unwrapInboundIn(data) else { return }
      script.heads.withLock { $0.append(head) }
      let answer = script.answer.withLock { $0 }
      var response = HTTPResponseHead(version: .http1_1, status: answer.status)
      response.headers.add(name: "Content-Length", value: "\(answer.body.utf8.count)")
      if let location = answer.location { response.headers.add(name: "Location", value: location) }
      context.write(wrapOutboundOut(.head(response)), promise: nil)
      let part = ByteBuffer(bytes: answer.body.utf8.prefix(answer.stopsAfter ?? .max))
      context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(part))), promise: nil)
      if answer.stopsAfter == nil { context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil) }
    }
  }
}
