import ArgumentParser
import Foundation
import Identity
import Logging
import Postgres
import Store

struct IssuerServe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Serve the issuer's metadata, its key set, and introspection.",
    discussion: """
      Speaks HTTP without TLS: put a front end with TLS before it that answers under the issuer's URL. GET /health is 200 while the
      keys can be read.

      With --introspection-secret it answers POST /introspect (RFC 7662) to callers that show the secret as a bearer token. For that
      it needs a database and a login that is a member of cordon_introspector; it asks the database about every token, and where
      that cannot be asked the answer is 503.

      The first SIGTERM or Ctrl-C stops it after the answers that are under way.
      """)

  @OptionGroup var options: IssuerKeyOptions
  @OptionGroup var name: IssuerNameOptions
  @OptionGroup var database: DatabaseOptions
  @Option(help: "Default: the host of the issuer's URL.")
  var trustDomain: String?
  @Option(help: "Address to listen on.")
  var host = "127.0.0.1"
  @Option(help: "Port to listen on; 0 takes a free one.")
  var port = 8_080
  @Option(help: "File with the secret of those who may introspect, of mode 0600.")
  var introspectionSecret: String?
  @Option(
    help: "The only audience whose tokens may be asked about. Default: any; callers then compare `aud` themselves.")
  var introspectionAudience: String?

  func run() async throws {
    let url = try name.url()
    let trustDomain = try TrustDomain(trustDomain ?? url.host)
    let directory = options.directory
    // What cannot be served is said before anything listens.
    _ = try directory.ring()
    let secret = try introspectionSecret.map { try GuardedFile.secret(Installation.absolute($0)) }
    var settings = ConnectionSettings(database.connection)
    settings.statementTimeout = DatabaseOptions.patience
    let pool = Pool(settings, maximum: 8, waitLimit: DatabaseOptions.patience)
    let store = Store(pool: pool)
    do {
      if secret != nil { try await store.requireCurrentSchema() }
      let introspection = try secret.map { secret in
        try Introspection(liveness: StoredLiveness(store: store), audience: introspectionAudience, secret: secret)
      }
      let endpoints = IssuerEndpoints(
        url: url, trustDomain: trustDomain, keys: directory, introspection: introspection,
        logger: Logger(label: "cordon.issuer", factory: StreamLogHandler.standardError(label:)))
      let (host, offers) = (host, introspection != nil)
      try await endpoints.serve(host: host, port: port) { port in
        Terminal.line(
          "serving \(url) on http://\(host):\(port.map { "\($0)" } ?? "?") without TLS; introspection: \(offers ? "yes" : "no")"
        )
      }
      await pool.close()
    } catch {
      await pool.close()
      throw error
    }
  }
}

/// What the database says of an attempt.
private struct StoredLiveness: AttemptLiveness {
  let store: Store

  func isLive(job: String, attempt: Int, token: Int64, scopes: Set<String>) async throws -> Liveness {
    let life = try await store.attemptIsLive(job: try jobID(job), attempt: attempt, token: token, scopes: scopes)
    return Liveness(isLive: life.isLive, asOf: life.asOf)
  }
}
