/// Where and how to connect. The text goes to libpq as it is, so everything libpq understands works: URLs,
/// keyword strings, `PG*` environment variables, service and password files, TLS modes, several hosts.
public struct ConnectionSettings: Sendable {
  /// A `postgresql://` URL, a `keyword=value` string, or empty for the environment alone.
  public var connectionString: String
  /// Shown in `pg_stat_activity`, unless the connection string or `PGAPPNAME` names another.
  public var applicationName: String
  /// Longest time one host may take to answer an attempt to connect; the next one is tried then. Over TCP, what a server
  /// leaves unacknowledged for as long, and at least three seconds, ends a connection, also an idle one; `keepalives_…`
  /// and `tcp_user_timeout` in the connection string say otherwise, in a service file they are not heard.
  public var connectTimeout: Duration
  /// Longest time a statement may take when its call gives no deadline; nil is without end.
  public var statementTimeout: Duration?
  /// How long the server may take to confirm a cancel request. Without confirmation the connection is given up.
  public var cancelGrace: Duration
  /// Who connects, where that changes in the life of a pool: asked before each connect. It overrides the connection string, and
  /// sessions that are open go on.
  public var login: (@Sendable () -> Login)?
  /// Called on the connection's thread for every notice of the server. Notices are dropped without it.
  public var noticeHandler: (@Sendable (Notice) -> Void)?

  public init(
    _ connectionString: String, applicationName: String = "cordon", connectTimeout: Duration = .seconds(10),
    statementTimeout: Duration? = nil, cancelGrace: Duration = .seconds(5), login: (@Sendable () -> Login)? = nil,
    noticeHandler: (@Sendable (Notice) -> Void)? = nil
  ) {
    self.connectionString = connectionString
    self.applicationName = applicationName
    self.connectTimeout = connectTimeout
    self.statementTimeout = statementTimeout
    self.cancelGrace = cancelGrace
    self.login = login
    self.noticeHandler = noticeHandler
  }

  /// A role and its password. The password is in no text that is made of it.
  public struct Login: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    public let user: String
    public let password: String

    public init(user: String, password: String) {
      self.user = user
      self.password = password
    }

    public var description: String { user }
    public var customMirror: Mirror { Mirror(self, children: ["user": user]) }
  }

  /// Less than the floor would be the loss of a packet or two.
  var silenceLimit: Duration { max(.seconds(3), connectTimeout) }
}
