/// Everything that can go wrong between a caller and the server, with nothing the server said left out.
public struct PostgresError: Error, Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable, Equatable {
    /// The server refused or failed a statement; `sqlState` is set.
    case server
    /// There is no connection, or it was lost.
    case connection
    /// The connection settings cannot be used as they are; trying again does not help.
    case settings
    /// The deadline passed before the answer came.
    case deadline
    /// The calling task was cancelled.
    case cancelled
    /// A value of the answer is not of the type that was asked for.
    case decoding
    /// The call itself is wrong; nothing was sent.
    case usage
    /// The pool was closed.
    case closed
  }

  public var kind: Kind
  /// The five-character code of the server. Also set on a refused connection, where the server gave one, and on
  /// deadlines and cancellations that the server confirmed (`57014`).
  public var sqlState: String?
  public var message: String
  public var detail: String?
  public var hint: String?
  /// The name of the statement that failed.
  public var statement: String?
  /// Call stack inside the server: the functions and lines that led here.
  public var context: String?
  public var schema: String?
  public var table: String?
  public var column: String?
  public var dataType: String?
  public var constraint: String?
  /// Position in the statement's text, in characters from 1.
  public var position: Int?
  /// `ERROR`, `FATAL` or `PANIC`, never localised.
  public var severity: String?
  /// True when the connection is gone with this error, or cannot be trusted any more.
  public var isConnectionLoss: Bool

  public init(
    _ kind: Kind, _ message: String, sqlState: String? = nil, detail: String? = nil, hint: String? = nil,
    statement: String? = nil, isConnectionLoss: Bool = false
  ) {
    self.kind = kind
    self.message = message
    self.sqlState = sqlState
    self.detail = detail
    self.hint = hint
    self.statement = statement
    self.isConnectionLoss = isConnectionLoss
  }

  /// One line for logs and people: kind or SQLSTATE, message, then whatever else the server said.
  public var description: String {
    var text = "\(sqlState.map { "\(kind.rawValue) \($0)" } ?? kind.rawValue): \(message)"
    if let detail { text += "; detail: \(detail)" }
    if let hint { text += "; hint: \(hint)" }
    if let constraint { text += "; constraint: \(constraint)" }
    if let statement { text += "; statement: \(statement)" }
    return text
  }

  /// True where another attempt to connect may succeed: the server is starting, full, or not there yet. Wrong
  /// passwords, unknown databases and the like stay wrong.
  public var isTransientConnectFailure: Bool {
    guard kind == .connection || kind == .deadline else { return false }
    guard let sqlState else { return true }
    return Self.permanentConnectClasses.allSatisfy { !sqlState.hasPrefix($0) }
  }

  /// Invalid authorisation, invalid catalog name, insufficient privilege, and settings the server does not know.
  private static let permanentConnectClasses = ["28", "3D", "42", "22"]
}

/// A remark of the server that is no error.
public struct Notice: Sendable {
  public let severity: String
  public let sqlState: String?
  public let message: String
  public let detail: String?
  public let hint: String?
}

/// One NOTIFY that reached a listening connection.
public struct Notification: Sendable, Equatable {
  public let channel: String
  public let payload: String
  /// Process id of the server session that sent it.
  public let sender: Int32

  public init(channel: String, payload: String, sender: Int32) {
    self.channel = channel
    self.payload = payload
    self.sender = sender
  }
}
