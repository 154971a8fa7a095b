import CPostgres
import EventThread
import Glibc

// Theory of operation
//
// A connection is an actor whose executor is a thread of its own. libpq runs non-blocking; a call sends, then
// polls the socket on that thread until the answer is complete. So a call holds the connection from its first
// byte to its last, a transaction body cannot be interleaved, and no lock guards the libpq handle: everything
// that touches it runs on the thread. Between calls the thread itself watches the socket, which is how
// notifications and the loss of the server are seen at once.
//
// While a call waits it looks at its deadline and, every few milliseconds, at the cancellation of its task. Either
// makes it send a cancel request (from a helper thread, because libpq's blocks) and go on reading: only the
// server's answer says whether the statement ran. When the answer arrives and the request is known to be
// delivered, the connection is as good as before; when that takes longer than `cancelGrace`, it is given up.
//
// A connection never comes back: once lost it stays lost, and the pool opens another.

/// One session with the server.
public actor Connection {
  public nonisolated let settings: ConnectionSettings
  /// What the channels of `listen` deliver. For one consumer; ends when the connection does. When nobody reads,
  /// the newest `notificationBacklog` are kept.
  public nonisolated let notifications: AsyncStream<Notification>
  public static let notificationBacklog = 4096

  public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

  let thread: EventThread
  /// Nil before `open` and once the connection is lost or closed.
  var handle: OpaquePointer?
  /// Why `handle` is nil.
  var end = PostgresError(.connection, "the connection was never opened", isConnectionLoss: true)
  /// The longest that anything inside the transaction under way may take.
  var transactionDeadline: ContinuousClock.Instant?
  var prepared: [String: Prepared] = [:]
  var preparedCount = 0
  let notices: NoticeSink
  private var watched: Int32?
  private var channels: Set<String> = []
  private let delivery: AsyncStream<Notification>.Continuation

  /// A statement the server knows, under the name it has there.
  struct Prepared {
    let sql: String
    let serverName: String
  }

  private init(_ settings: ConnectionSettings) {
    self.settings = settings
    notices = NoticeSink(handler: settings.noticeHandler)
    thread = EventThread(name: "cordon-pg")
    (notifications, delivery) = AsyncStream.makeStream(
      bufferingPolicy: .bufferingNewest(Self.notificationBacklog))
  }

  isolated deinit {
    shut()
    thread.stop()
  }

  /// Opens a connection.
  ///
  /// Name resolution is libpq's and blocks the connection's thread, so it may outlast the deadline.
  /// - Parameter deadline: longest time until the session is ready, over all hosts of the settings together; nil gives
  ///   each of them `settings.connectTimeout`.
  public static func connect(
    _ settings: ConnectionSettings, deadline: Duration? = nil
  ) async throws(PostgresError) -> Connection {
    let connection = Connection(settings)
    try await connection.open(deadline: deadline.map { .now + $0 })
    return connection
  }

  /// Ends the session. Calls made later throw an error of kind `connection`.
  public func close() {
    end = PostgresError(.connection, "the connection was closed", isConnectionLoss: true)
    shut()
  }

  /// Process id of the server session; 0 once the connection is gone.
  public var serverProcess: Int32 { PQbackendPID(handle) }

  /// Version of the server as libpq counts it: 150004 is 15.4; 0 once the connection is gone.
  public var serverVersion: Int { Int(PQserverVersion(handle)) }

  /// Where it leads, as libpq took it from the settings: host (or directory of its socket), port and database, no secret.
  public var place: String {
    let (host, port, database) = (PQhost(handle), PQport(handle), PQdb(handle))
    return "\(host.map { String(cString: $0) } ?? ""):\(port.map { String(cString: $0) } ?? "")/"
      + (database.map { String(cString: $0) } ?? "")
  }

  /// False once the connection is lost or closed, or the server has said that it is leaving. Looks at the socket, so
  /// a server that left is noticed.
  public var isUsable: Bool {
    receive()
    return handle != nil && !notices.heardFatal
  }

  /// True when another caller may take over: in no transaction, no pipeline, listening to nothing.
  public var isReusable: Bool {
    guard isUsable, let handle else { return false }
    return PQtransactionStatus(handle) == PQTRANS_IDLE && PQpipelineStatus(handle) == PQ_PIPELINE_OFF
      && PQisBusy(handle) == 0 && channels.isEmpty
  }

  /// Subscribes to a channel; its notifications appear in `notifications` once the current transaction commits.
  public func listen(_ channel: String) throws(PostgresError) {
    let quoted = try quote(identifier: channel)
    channels.insert(channel)
    try execute(script: "LISTEN \(quoted)")
  }

  public func unlisten(_ channel: String) throws(PostgresError) {
    try execute(script: "UNLISTEN \(try quote(identifier: channel))")
    channels.remove(channel)
  }

  /// A name as SQL text reads it, with quotes where they are needed or not.
  public func quote(identifier: String) throws(PostgresError) -> String {
    try quote(identifier, by: PQescapeIdentifier)
  }

  /// A text as SQL text reads it, with its quotes.
  public func quote(literal: String) throws(PostgresError) -> String {
    try quote(literal, by: PQescapeLiteral)
  }

  private func quote(
    _ text: String, by escape: (OpaquePointer?, UnsafePointer<CChar>?, Int) -> UnsafeMutablePointer<CChar>?
  ) throws(PostgresError) -> String {
    let handle = try live()
    guard !text.utf8.contains(0) else { throw PostgresError(.usage, "a NUL character cannot be quoted") }
    guard let quoted = escape(handle, text, text.utf8.count) else {
      throw PostgresError(.usage, libpqMessage(handle))
    }
    defer { PQfreemem(quoted) }
    return String(cString: quoted)
  }

  // MARK: The handle

  /// The handle of a connection that can be used.
  func live() throws(PostgresError) -> OpaquePointer {
    if let handle { return handle }
    throw end
  }

  /// Watches the socket while no call does.
  func watchSocket() {
    let socket = PQsocket(handle)
    guard socket >= 0 else { return }
    watched = socket
    thread.watch(socket, events: Int16(POLLIN)) { [weak self] _ in
      self?.assumeIsolated { $0.receive() }
    }
  }

  /// Reads what has arrived and delivers notifications; a server that has left ends the connection.
  func receive() {
    guard let handle else { return }
    let alive = PQconsumeInput(handle) == 1
    deliverNotifications()
    if !alive || PQstatus(handle) != CONNECTION_OK {
      _ = lose(notices.takeFatal() ?? PostgresError(.connection, libpqMessage(handle)))
    }
  }

  func deliverNotifications() {
    while let notification = PQnotifies(handle) {
      delivery.yield(
        Notification(
          channel: String(cString: notification.pointee.relname), payload: String(cString: notification.pointee.extra),
          sender: notification.pointee.be_pid))
      PQfreemem(notification)
    }
  }

  /// Gives the connection up and returns the error to throw.
  func lose(_ cause: PostgresError) -> PostgresError {
    var error = cause
    if error.kind == .server { error.kind = .connection }
    error.isConnectionLoss = true
    if handle != nil {
      end = error
      end.kind = .connection
      end.statement = nil
      end.message = "the connection was lost: \(cause.message)"
      shut()
    }
    return error
  }

  private func shut() {
    if let watched { thread.unwatch(watched) }
    watched = nil
    PQfinish(handle)
    handle = nil
    delivery.finish()
  }
}

/// What libpq says about the last failure on the connection, on one line.
func libpqMessage(_ handle: OpaquePointer?) -> String {
  let message = oneLine(String(cString: PQerrorMessage(handle)))
  return message.isEmpty ? "the connection failed without a reason" : message
}

func oneLine(_ text: String) -> String {
  text.split(whereSeparator: \.isNewline).map { $0.drop(while: \.isWhitespace) }.joined(separator: "; ")
}
