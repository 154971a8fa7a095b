import Destinations
import Glibc
import Logging
import NIOCore
import NIOPosix
import NIOSSL

// The only exit of a cell. Who they are: the job's client inside the cell's network namespace, unmodified; a listener in that namespace,
// made before the job and handed here as a descriptor; the session, which is one attempt's account and ledger; a connection, which is one
// task; the server outside, dialled from the worker's own network.
//
// Who says what, in which order, for each connection:
//   1. the client connects to a door. A door is for one grant; the door for CONNECT reads from the request which grant is meant.
//   2. what the client says first is parsed once into what is matched: a ClientHello, a request's head, or nothing in mode tcp.
//   3. the grant is matched, and only then its name resolved, once. Every address is judged; only a judged one is dialled.
//   4. the decision is recorded; then the server is connected, verified, and spoken to.
//   5. bytes are counted before they are passed on; the end is recorded with what was counted.
// A step that fails ends the connection and is recorded. No step has another way round.

/// Connects attempts to what their grants name, and to nothing else.
public final class Broker: Sendable {
  /// Whose certificates are believed outside.
  public enum TrustRoots: Sendable, Equatable {
    case system
    /// A file of certificates in PEM.
    case file(String)
  }

  /// Why a session was not opened.
  public struct Problem: Error, Equatable, CustomStringConvertible {
    public let description: String
  }

  private let resolver: any NameResolver
  private let group: any EventLoopGroup
  private let outside: NIOSSLContext
  private let host = OwnAddresses()
  let logger: Logger

  /// - Throws: where the trust roots cannot be read, or hold none.
  public init(
    resolver: some NameResolver, trust: TrustRoots,
    group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton, logger: Logger
  ) throws {
    self.resolver = resolver
    self.group = group
    self.logger = logger
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.minimumTLSVersion = .tlsv12
    configuration.certificateVerification = .fullVerification
    configuration.applicationProtocols = ["http/1.1"]
    switch trust {
    case .system: configuration.trustRoots = .default
    case .file(let path):
      let roots = try NIOSSLCertificate.fromPEMFile(path)
      guard !roots.isEmpty else { throw Problem(description: "\(path) holds no certificate") }
      configuration.trustRoots = .certificates(roots)
    }
    outside = try NIOSSLContext(configuration: configuration)
  }

  /// Starts to accept for an attempt. The descriptors are taken over, whatever happens.
  ///
  /// - Parameters:
  ///   - grants: each with a listening socket of the cell's network namespace, at the grant's `listenPort`.
  ///   - proxy: a listening socket for CONNECT to any of the grants.
  ///   - before: what an earlier session of the attempt came to; the ledger goes on there.
  ///   - inspection: what the cell was told to trust already; nil: one is made where a grant needs it.
  ///   - conceal: takes out of a text what must not stand in the ledger; called for each decision.
  ///   - allowance: what the attempt's principal may send over all of its attempts; nil: nobody counts that.
  ///   - ledger: is given each decision before it takes effect, in order, one at a time; it must not block.
  public func open(
    _ attempt: AttemptAddress, grants: [(Grant, listener: Int32)], proxy: Int32?, inspection: Inspection? = nil,
    after before: LedgerSummary? = nil,
    limits: SessionLimits = .init(), allowance: EgressAllowance? = nil,
    credentials: some CredentialProvider, conceal: @escaping @Sendable (String) -> String = { $0 },
    ledger: @escaping @Sendable (LedgerLine) -> Void
  ) async throws -> EgressSession {
    var doors: [(grant: Grant?, listener: Int32)] = grants.map { ($0.0, $0.listener) }
    if let proxy { doors.append((nil, proxy)) }
    let session: EgressSession
    do {
      let all = grants.map(\.0)
      guard Set(all.map(\.name)).count == all.count else { throw Problem(description: "two grants have one name") }
      guard limits.ledgerLines >= 3 else { throw Problem(description: "a ledger has 3 lines at least") }
      session = EgressSession(
        broker: self, attempt: attempt, grants: all, limits: limits, credentials: credentials,
        inspection: try inspection ?? Inspection(for: all), allowance: allowance, after: before, conceal: conceal,
        record: ledger)
    } catch {
      for door in doors { Glibc.close(door.listener) }
      throw error
    }
    for (index, door) in doors.enumerated() {
      do {
        try await listen(door.listener, door.grant, session)
      } catch {
        for later in doors[(index + 1)...] { Glibc.close(later.listener) }
        session.cut(reason: "the broker could not listen")
        throw Problem(description: "grant \"\(door.grant?.name ?? "proxy")\": cannot accept on its listener: \(error)")
      }
    }
    return session
  }

  private func listen(_ descriptor: Int32, _ grant: Grant?, _ session: EgressSession) async throws {
    let door = try await ServerBootstrap(group: group)
      .childChannelOption(.autoRead, value: false)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(.recvAllocator, value: Self.allocator)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        // Beyond the cap it is closed at once, so that the cell's queue of connections stays empty.
        guard session.accept(at: grant) else { return channel.close() }
        return channel.eventLoop.makeCompletedFuture {
          do {
            let wire = try Wire(channel)
            Task(executorPreference: LoopExecutor(channel.eventLoop)) {
              await Connection(session, wire).serve(at: grant)
            }
          } catch {
            session.hangUp()
            throw error
          }
        }
      }
      .withBoundSocket(descriptor).get()
    guard session.keep(door: door) else { return door.close(promise: nil) }
  }

  private static let allocator = AdaptiveRecvByteBufferAllocator(
    minimum: 4_096, initial: 65_536, maximum: Wire.mostRead)

  // MARK: For the connections

  /// The addresses of a grant that may be dialled.
  /// - Throws: `Denial` where there are none.
  func dialling(_ grant: Grant, for session: EgressSession, on loop: any EventLoop) async throws -> Dialling {
    let addresses =
      switch grant.host {
      case .address(let address): [address]
      case .name(let name): try await resolve(name, of: grant, for: session, on: loop)
      }
    let dialling = Dialling(addresses, for: grant, own: try host.addresses())
    guard !dialling.candidates.isEmpty else {
      let reasons = dialling.refused.prefix(4).joined(separator: ", ")
      throw Denial(
        rule: grant.noAddress
          + (reasons.isEmpty ? ": it has none" : ": \(reasons), and allow_private lists no block around it"))
    }
    return dialling
  }

  private func resolve(
    _ name: String, of grant: Grant, for session: EgressSession, on loop: any EventLoop
  ) async throws -> [IPAddress] {
    if let known = session.recent(name) { return known }
    do {
      let addresses = try await Deadline.first(within: session.limits.resolve, on: loop) { [resolver] in
        try await resolver.addresses(of: name)
      }
      session.keep(addresses, of: name)
      return addresses
    } catch {
      throw Denial(
        rule: "grant \"\(grant.name)\": \(grant.host) cannot be resolved: \(Self.words(error))", status: 502)
    }
  }

  /// Connects to the first address that answers, and verifies who it is where the grant's mode ends TLS here.
  /// - Parameter keep: is given each wire before it is connected; what it throws ends that.
  func connect(
    to dialling: Dialling, of grant: Grant, on loop: any EventLoop, within time: Duration,
    keep: @escaping @Sendable (Wire) throws -> Void
  ) async throws -> (Wire, IPAddress) {
    var last: any Error = Problem(description: "no address")
    for address in dialling.candidates {
      do {
        return (try await connect(to: address, of: grant, on: loop, within: time, keep), address)
      } catch let error as UpstreamFailure where !error.hasAnswered {
        last = error
      }
    }
    throw last
  }

  private func connect(
    to address: IPAddress, of grant: Grant, on loop: any EventLoop, within time: Duration,
    _ keep: @escaping @Sendable (Wire) throws -> Void
  ) async throws -> Wire {
    let endsTLS = grant.mode.readsRequests
    // For an address the handler verifies the address that it is connected to.
    let name: String? = if case .name(let name) = grant.host { name } else { nil }
    let wire: Wire
    do {
      wire = try await ClientBootstrap(group: loop)
        .connectTimeout(TimeAmount(time))
        .channelOption(.autoRead, value: false)
        .channelOption(.allowRemoteHalfClosure, value: !endsTLS)
        .channelOption(.maxMessagesPerRead, value: 1)
        .channelOption(.recvAllocator, value: Self.allocator)
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .connect(to: try SocketAddress(ipAddress: address.description, port: Int(grant.port))) { [outside] channel in
          channel.eventLoop.makeCompletedFuture {
            let wire = try endsTLS ? Wire(channel, client: outside, host: name) : Wire(channel)
            try keep(wire)
            return wire
          }
        }
    } catch let denial as Denial {
      throw denial
    } catch {
      throw UpstreamFailure(reason: "cannot be connected to: \(Self.words(error))", hasAnswered: false)
    }
    guard endsTLS else { return wire }
    let alarm = loop.scheduleTask(in: TimeAmount(time)) { wire.abort() }
    defer { alarm.cancel() }
    do {
      try await wire.handshake()
      return wire
    } catch {
      wire.abort()
      // What BoringSSL names, without the places of its sources.
      let named = "\(error)".matches(of: /OPENSSL_internal:([A-Z0-9_]+)/).map { String($0.1) }
      let words = named.isEmpty ? Self.words(error) : named.joined(separator: ", ")
      let isUnproven = error is NIOSSLExtraError || named.contains("CERTIFICATE_VERIFY_FAILED")
      let reason = isUnproven ? "has no certificate that proves \(grant.host)" : "completes no TLS 1.2 handshake"
      throw UpstreamFailure(reason: "\(reason): \(words)", hasAnswered: true)
    }
  }

  /// An error of a library in one line of ASCII.
  static func words(_ error: any Error) -> String {
    let words = "\(error)".unicodeScalars.map { (32...126).contains($0.value) ? Character($0) : " " }
    return String(words.prefix(200))
  }
}

/// What the server did, or did not do.
struct UpstreamFailure: Error {
  let reason: String
  /// Whether somebody was there: then no other address is tried.
  var hasAnswered = true
}
