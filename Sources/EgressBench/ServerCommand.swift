import ArgumentParser
import Crypto
import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import SwiftASN1
import X509

// The server outside, in a process of its own: it ends TLS and answers messages, and knows nothing of who is between.
// Order: it writes its certificate into a file, listens, prints its port, and serves until its input ends.

struct ServerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "server", abstract: "The TLS server that the clients ask; started by the bench.", shouldDisplay: false)

  @Option(help: "Where its certificate is written.")
  var certificate: String

  /// What the clients ask for and the certificate proves.
  static let name = "server.bench.test"

  func run() async throws {
    let context = try Self.context(certificate)
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup(numberOfThreads: 1))
      .serverChannelOption(.backlog, value: 128)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers([NIOSSLServerHandler(context: context), Service()])
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    await Child.serve(at: channel.localAddress?.port ?? 0)
  }

  private static func context(_ file: String) throws -> NIOSSLContext {
    let key = P256.Signing.PrivateKey()
    let issuer = Certificate.PrivateKey(key)
    let subject = try DistinguishedName { CommonName("The server of a bench") }
    let certificate = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: issuer.publicKey, notValidBefore: Date() - 300,
      notValidAfter: Date() + 86_400, issuer: subject, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
        SubjectAlternativeNames([.dnsName(name)])
      }, issuerPrivateKey: issuer)
    let pem = try certificate.serializeAsPEM()
    try pem.pemString.write(toFile: file, atomically: true, encoding: .utf8)
    let configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: [.certificate(try NIOSSLCertificate(bytes: Array(pem.derBytes), format: .der))],
      privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(key.derRepresentation), format: .der)))
    return try NIOSSLContext(configuration: configuration)
  }
}

/// Answers the messages of one connection.
private final class Service: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private static let block = ByteBuffer(repeating: 0x78, count: 256 << 10)
  private var received = ByteBuffer()

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    received.writeBuffer(&bytes)
    while let message = Message(&received) {
      switch message.wish {
      case .echo: context.writeAndFlush(wrapOutboundOut(message.bytes), promise: nil)
      case .stream(let count): send(count, context)
      }
    }
    received.discardReadBytes()
  }

  /// A block when the one before it has been taken by the kernel; other connections have their turn between.
  private func send(_ left: Int, _ context: ChannelHandlerContext) {
    guard left > 0 else { return }
    let count = min(left, Self.block.readableBytes)
    guard let piece = Self.block.getSlice(at: 0, length: count) else { return }
    let loop = context.eventLoop.assumeIsolated()
    context.writeAndFlush(wrapOutboundOut(piece)).assumeIsolated().whenSuccess {
      loop.execute { self.send(left - count, context) }
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
