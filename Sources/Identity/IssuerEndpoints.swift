import FoundationEssentials
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore

// Theory of operation
//
// A small HTTP server with four paths. It speaks HTTP/1.1 without TLS and listens where it is told, which by default only this host
// reaches: a front end ends TLS under the issuer's name and passes these paths on.
//
//   GET  /.well-known/openid-configuration, /.well-known/jwks.json   for relying parties, without authentication
//   POST /introspect                                                 for those that share the secret
//   GET  /health                                                     for whoever watches it
//
// The key directory is read for each answer, so a rotation needs no restart. A directory that cannot be read is a 503.

/// The issuer's endpoints.
public struct IssuerEndpoints: Sendable {
  let url: IssuerURL
  let trustDomain: TrustDomain
  let keys: KeyDirectory
  let introspection: Introspection?
  let logger: Logger

  /// - Parameter introspection: nil where it is not offered; the path is a 404 then.
  public init(
    url: IssuerURL, trustDomain: TrustDomain, keys: KeyDirectory, introspection: Introspection?, logger: Logger
  ) {
    self.url = url
    self.trustDomain = trustDomain
    self.keys = keys
    self.introspection = introspection
    self.logger = logger
  }

  /// Serves until SIGTERM or SIGINT, then answers what it has begun to and returns.
  /// - Parameter listening: is told the port once it accepts.
  public func serve(host: String, port: Int, listening: @escaping @Sendable (Int?) async -> Void) async throws {
    try await application(host: host, port: port, listening: listening).runService()
  }

  func application(
    host: String, port: Int, listening: @escaping @Sendable (Int?) async -> Void = { _ in }
  ) -> some ApplicationProtocol {
    Application(
      router: router(),
      // A connection on which nothing comes is not kept for whoever opens many.
      server: .http1(configuration: HTTP1Channel.Configuration(idleTimeout: .seconds(30))),
      configuration: ApplicationConfiguration(address: .hostname(host, port: port), serverName: nil),
      onServerRunning: { channel in await listening(channel.localAddress?.port) }, logger: logger)
  }

  private func router() -> Router<BasicRequestContext> {
    let router = Router()
    let cached = "public, max-age=\(KeyRing.cachingTime)"
    router.get("/\(PublishedDocuments.configurationPath)") { _, _ in
      published(cacheControl: cached) { $0.configuration }
    }
    router.get("/\(PublishedDocuments.keySetPath)") { _, _ in
      published(cacheControl: cached) { $0.keySet }
    }
    router.get("/health") { _, _ in
      published(cacheControl: Self.uncached) { _ in Array(#"{"status":"ok"}"#.utf8) }
    }
    if let introspection {
      router.post("/\(PublishedDocuments.introspectionPath)") { request, _ in
        await introspect(request, introspection)
      }
    }
    return router
  }

  private func published(cacheControl: String, _ part: (PublishedDocuments) -> [UInt8]) -> Response {
    do {
      let documents = try PublishedDocuments(
        url: url, ring: try keys.ring(), at: .now, hasIntrospection: introspection != nil)
      return respond(.ok, part(documents), cacheControl: cacheControl)
    } catch {
      logger.error("\(error)")
      return respond(.serviceUnavailable, Self.unavailable)
    }
  }

  private func introspect(_ request: Request, _ introspection: Introspection) async -> Response {
    guard introspection.admits(authorization: request.headers[.authorization]) else {
      var response = respond(.unauthorized, Array(#"{"error":"invalid_client"}"#.utf8))
      response.headers[.wwwAuthenticate] = "Bearer"
      return response
    }
    var request = request
    guard let body = try? await request.collectBody(upTo: IntrospectionForm.mostBytes) else {
      return respond(.contentTooLarge, Self.invalid)
    }
    guard let form = IntrospectionForm(Array(body.readableBytesView), contentType: request.headers[.contentType]) else {
      return respond(.badRequest, Self.invalid)
    }
    do {
      let verifier = try await TokenVerifier(url: url, trustDomain: trustDomain, ring: try keys.ring())
      let answer = await introspection.answer(form.token, verifier: verifier)
      if case .unavailable(let reason) = answer {
        logger.error("introspection: \(reason)")
        return respond(.serviceUnavailable, Self.unavailable)
      }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return respond(.ok, Array(try encoder.encode(answer)))
    } catch {
      logger.error("\(error)")
      return respond(.serviceUnavailable, Self.unavailable)
    }
  }

  private static let invalid = Array(#"{"error":"invalid_request"}"#.utf8)
  private static let unavailable = Array(#"{"error":"temporarily_unavailable"}"#.utf8)

  /// What an answer says is of this moment only, unless it is a document.
  private static let uncached = "no-store"

  private func respond(
    _ status: HTTPResponse.Status, _ body: [UInt8], cacheControl: String = uncached
  ) -> Response {
    Response(
      status: status,
      headers: [.contentType: "application/json", .cacheControl: cacheControl],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
  }
}
