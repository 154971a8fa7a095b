/// How much is measured.
struct Plan: Sendable {
  /// Rounds of each scenario, in which all contenders take turns; of their figures the medians count.
  var rounds: Int
  /// Bytes that one connection receives in a round.
  var streamBytes: Int
  /// Requests in a round, over all connections.
  var echoes: Int
  /// New connections in a round, over all that are made at once.
  var connects: Int

  static let full = Plan(rounds: 9, streamBytes: 64 << 20, echoes: 4_000, connects: 480)
  /// A look in some seconds; numbers are not stable.
  static let quick = Plan(rounds: 3, streamBytes: 16 << 20, echoes: 1_600, connects: 160)

  var text: String {
    "\(rounds) rounds; \(streamBytes >> 20) MiB a connection; \(echoes) requests of \(Message.size) bytes and \(connects) "
      + "new connections a round"
  }
}

/// What is done, over how many connections at once.
struct Scenario: Sendable, Hashable {
  enum Kind: String, Sendable, CaseIterable {
    /// The server sends, the client reads.
    case stream
    /// A request and its answer on a connection that is open.
    case echo
    /// From the call of connect to the end of the TLS handshake.
    case connect
  }

  var kind: Kind
  var connections: Int

  var name: String { "\(kind.rawValue)\(connections)" }

  static let all = Kind.allCases.flatMap { kind in [1, 16].map { Scenario(kind: kind, connections: $0) } }
}

/// How a client gets to the server.
struct Way: Sendable {
  var name: String
  var remark: String
  /// On 127.0.0.1.
  var port: Int
  /// What the client asks for with CONNECT; nil where it just connects.
  var tunnel: String?
}
