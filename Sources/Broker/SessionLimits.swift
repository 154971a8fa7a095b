/// What one attempt may use of the broker, whatever its grants are. The values are Cordon's own choice.
public struct SessionLimits: Sendable, Equatable {
  /// Of the job, at once.
  public var connections = 64
  /// Of one HTTP message.
  public var bodyBytes = 1 << 30
  /// Until a ClientHello or the head of a request has come as a whole.
  public var head: Duration = .seconds(10)
  public var resolve: Duration = .seconds(5)
  /// Until the provider has given a credential.
  public var credential: Duration = .seconds(10)
  /// To a server, with the TLS handshake where there is one.
  public var connect: Duration = .seconds(10)
  /// Without a byte in either direction.
  public var idle: Duration = .seconds(60)
  /// Of one connection.
  public var total: Duration = .seconds(3_600)
  /// Lines of the ledger; at least 3.
  public var ledgerLines: Int64 = 10_000

  public init() {}
}
