import Broker
import Credentials
import Destinations
import Identity
import Kernel
import Logging
import Store
import Synchronization

/// What all attempts of a worker with grants share: the broker, and where credentials come from.
public final class EgressService: Sendable {
  let keeper: CredentialKeeper?
  /// Makes tokens that say who an attempt is; nil: this worker makes none.
  let issuer: TokenIssuer?
  private let trust: Broker.TrustRoots
  private let resolver: any NameResolver
  private let logger: Logger
  private let made = Mutex<Broker?>(nil)

  /// - Parameters:
  ///   - trust: whose certificates are believed outside, where the broker ends TLS.
  ///   - keeper: the credentials of this worker; nil is none, and a grant that names one is then refused.
  ///   - issuer: for credentials that are tokens of the attempt.
  public init(
    trust: Broker.TrustRoots = .system, resolver: any NameResolver = SystemResolver(),
    keeper: CredentialKeeper? = nil, issuer: TokenIssuer? = nil, logger: Logger
  ) {
    self.issuer = issuer
    self.trust = trust
    self.resolver = resolver
    self.keeper = keeper
    self.logger = logger
  }

  /// Made with the first attempt that has grants; a worker without such jobs has no threads for it.
  /// - Throws: where the trust roots cannot be read.
  func broker() throws -> Broker {
    try made.withLock { made in
      if let made { return made }
      let broker = try Broker(resolver: resolver, trust: trust, logger: logger)
      made = broker
      return broker
    }
  }

  /// What clients in a cell verify servers by, in PEM: the same as outside, and the attempt's own authority where it has one.
  func certificates(_ inspection: Inspection?) throws -> [UInt8] {
    let roots: [UInt8] =
      switch trust {
      case .file(let path): try Descriptor.open(path).readAll(limit: Self.mostRoots)
      case .system: (try? Descriptor.open(Self.systemRoots).readAll(limit: Self.mostRoots)) ?? []
      }
    return roots + Array((inspection.map { "\n\($0.authority)" } ?? "").utf8)
  }

  /// Debian's and Fedora's name for the bundle; where there is none clients have only the attempt's own.
  private static let systemRoots = "/etc/ssl/certs/ca-certificates.crt"
  private static let mostRoots = 4 << 20

  /// Throws what the first attempt would meet.
  public func check() throws { _ = try broker() }
}
