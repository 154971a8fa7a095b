import Crypto
import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import SwiftASN1
import Synchronization
import X509

@testable import Broker

/// A server outside, on this host's loopback: a function of a connection.
final class Server: Sendable {
  let port: UInt16
  private let channel: any Channel
  private let counter = Mutex(0)

  /// How often somebody has connected.
  var connections: Int { counter.withLock { $0 } }

  init(
    tls: NIOSSLContext? = nil, _ serve: @escaping @Sendable (Wire) async throws -> Void
  ) async throws {
    let (accepted, announce) = AsyncStream.makeStream(of: Wire.self)
    channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelOption(.autoRead, value: false)
      .childChannelOption(.allowRemoteHalfClosure, value: tls == nil)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls), name: "tls") }
          announce.yield(try Wire(channel))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = UInt16(channel.localAddress?.port ?? 0)
    Task { [weak self] in
      for await wire in accepted {
        self?.counter.withLock { $0 += 1 }
        Task {
          try? await serve(wire)
          await wire.close()
        }
      }
    }
  }

  deinit { channel.close(promise: nil) }

  /// Sends back what comes, and its end.
  static func echo() async throws -> Server {
    try await Server { wire in
      while let bytes = try await wire.read() { try await wire.write(bytes) }
      try await wire.finish()
    }
  }
}

/// Texts that several tasks write down.
final class Notes: Sendable {
  private let texts = Mutex<[String]>([])

  var all: [String] { texts.withLock { $0 } }

  func append(_ text: String) { texts.withLock { $0.append(text) } }
}

/// A server of HTTP behind TLS that answers each request with what the test says.
struct WebServer: Sendable {
  let server: Server
  /// The requests that it has read.
  let seen = Notes()

  var port: UInt16 { server.port }

  /// - Parameter answer: to a request, of which it is told the text.
  init(
    _ chain: TestAuthority.Chain, _ answer: @escaping @Sendable (String) -> String = { _ in Self.ok }
  ) async throws {
    server = try await Server(tls: chain.context()) { [seen] wire in
      while true {
        let text = try await wire.readMessage()
        guard !text.isEmpty else { return }
        seen.append(text)
        try await wire.write(answer(text))
      }
    }
  }

  static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
}

/// Certificates of a test's own, by a root in a file.
struct TestAuthority {
  let rootFile: String
  private let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
  private let name: DistinguishedName

  struct Chain: Sendable {
    let certificate: NIOSSLCertificate
    let key: NIOSSLPrivateKey

    func context() throws -> NIOSSLContext {
      var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: [.certificate(certificate)], privateKey: .privateKey(key))
      configuration.applicationProtocols = ["http/1.1"]
      return try NIOSSLContext(configuration: configuration)
    }
  }

  init() throws {
    name = try DistinguishedName { CommonName("root of a test") }
    let root = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: key.publicKey, notValidBefore: Date() - 60,
      notValidAfter: Date() + 3_600, issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
        Critical(KeyUsage(keyCertSign: true))
      }, issuerPrivateKey: key)
    rootFile = NSTemporaryDirectory() + "cordon-broker-\(UUID().uuidString).pem"
    try root.serializeAsPEM().pemString.write(toFile: rootFile, atomically: true, encoding: .utf8)
  }

  func chain(for host: String = "packages.internal", until end: Date = Date() + 3_600) throws -> Chain {
    let own = P256.Signing.PrivateKey()
    let leaf = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: Certificate.PublicKey(own.publicKey),
      notValidBefore: min(Date(), end) - 60, notValidAfter: end, issuer: name,
      subject: try DistinguishedName { CommonName("a server") }, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        SubjectAlternativeNames([.dnsName(host)])
      }, issuerPrivateKey: key)
    return Chain(
      certificate: try NIOSSLCertificate(bytes: Array(leaf.serializeAsPEM().derBytes), format: .der),
      key: try NIOSSLPrivateKey(bytes: Array(own.derRepresentation), format: .der))
  }
}
