import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

// Theory of operation
//
// The worker asks Vault, the job never does. One request is one client with one connection: the token's file and the
// authority's file are read for it, so that a renewed token and a new authority are used from then on, and nothing of
// either is kept. A request that is not answered whole within five seconds is given up, since the job's own request is
// waiting for it; the broker then refuses that request, and the job may try again.
//
// Redirects are not followed: the token would go where Vault, or who speaks in its place, points to.

/// A secret in HashiCorp Vault's key-value engine, version 2.
public struct VaultSource: CredentialSource {
  public let address: VaultAddress
  /// Longest time from the first byte to the last.
  public static let patience = Duration.seconds(5)

  private let patience: Duration

  public init(_ address: VaultAddress) {
    self.init(address, patience: Self.patience)
  }

  init(_ address: VaultAddress, patience: Duration) {
    self.address = address
    self.patience = patience
  }

  public func fetch(for attempt: CredentialAttempt) async throws(CredentialError) -> Secret {
    let token = try FileSource(path: address.tokenFile).read()
    do {
      let (status, body) = try await answer(token)
      return try VaultAnswer.secret(status: status, body: body, address: address)
    } catch {
      throw error.named(address.name)
    }
  }

  private func request(_ token: Secret) throws(CredentialError) -> HTTPClientRequest {
    guard let token = token.text, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw CredentialError(.unusable, "\(address.tokenFile) holds no token")
    }
    var request = HTTPClientRequest(url: address.url)
    request.headers.add(name: "X-Vault-Token", value: token)
    // Vault refuses requests without it where it is told to, against requests that were forged (its "HTTP API" page).
    request.headers.add(name: "X-Vault-Request", value: "true")
    if let namespace = address.namespace { request.headers.add(name: "X-Vault-Namespace", value: namespace) }
    return request
  }

  private func configuration() throws(CredentialError) -> HTTPClient.Configuration {
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.minimumTLSVersion = .tlsv12
    if let file = address.authorityFile {
      guard let authorities = try? NIOSSLCertificate.fromPEMFile(file), !authorities.isEmpty else {
        throw CredentialError(.unusable, "\(file) holds no certificate in PEM")
      }
      tls.trustRoots = .certificates(authorities)
    }
    var configuration = HTTPClient.Configuration(tlsConfiguration: tls, redirectConfiguration: .disallow)
    configuration.httpVersion = .http1Only
    // The library would try again until the time is over, and hide why.
    configuration.connectionPool.retryConnectionEstablishment = false
    return configuration
  }

  private func answer(_ token: Secret) async throws(CredentialError) -> (status: Int, body: [UInt8]) {
    let request = try request(token)
    let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: try configuration())
    let outcome = await Self.within(patience) { () async -> Result<(Int, [UInt8]), CredentialError> in
      do {
        let response = try await client.execute(request, timeout: .seconds(60))
        let body = try await response.body.collect(upTo: VaultAnswer.mostBytes)
        return .success((Int(response.status.code), Array(body.readableBytesView)))
      } catch {
        return .failure(Self.described(error))
      }
    }
    try? await client.shutdown()
    guard let outcome else {
      throw CredentialError(.unavailable, "no whole answer within \(patience)")
    }
    return try outcome.get()
  }

  /// Says what class of failure it was: what a library writes about a request may hold its headers.
  private static func described(_ error: any Error) -> CredentialError {
    switch error {
    case is NIOTooManyBytesError:
      CredentialError(.unusable, "an answer of more than \(VaultAnswer.mostBytes) bytes")
    case is NIOSSLError, is BoringSSLError, is NIOSSLExtraError:
      CredentialError(.refused, "TLS failed (fix: check ca_file, and that the certificate is for this name)")
    case is NIOConnectionError, is IOError:
      CredentialError(.unavailable, "no connection (fix: check address, and that Vault runs)")
    default: CredentialError(.unavailable, "the request failed (\(type(of: error)))")
    }
  }

  /// Nil where `work` took longer; it is cancelled then.
  private static func within<Value: Sendable>(
    _ limit: Duration, _ work: @escaping @Sendable () async -> Value
  ) async -> Value? {
    await withTaskGroup(of: Value?.self) { group in
      group.addTask { await work() }
      group.addTask {
        try? await Task.sleep(for: limit)
        return nil
      }
      let first = await group.next() ?? nil
      group.cancelAll()
      return first
    }
  }
}
