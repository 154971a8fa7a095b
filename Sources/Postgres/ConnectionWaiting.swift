import CPostgres
import Glibc

/// One call in flight: what bounds it, and whether it was interrupted.
struct Call {
  let statement: String?
  let deadline: ContinuousClock.Instant?
  let cancellable: Bool
  var interruption: Interruption?

  struct Interruption {
    /// `deadline` or `cancelled`.
    let kind: PostgresError.Kind
    let request: CancelRequest
    /// Until then the server must have answered.
    let confirmBy: ContinuousClock.Instant
  }
}

enum Wait {
  case ready(Int16)
  case deadline
  case cancelled
}

extension Connection {
  /// How often a waiting call looks whether its task was cancelled.
  private static let cancellationCheck: Duration = .milliseconds(20)

  /// Sleeps in poll(2) on the connection's thread.
  func waitForSocket(
    _ descriptor: Int32, events: Int16, until deadline: ContinuousClock.Instant?, cancellable: Bool
  ) -> Wait {
    while true {
      if cancellable, Task.isCancelled { return .cancelled }
      let now = ContinuousClock.now
      if let deadline, deadline <= now { return .deadline }
      var slice: Duration? = deadline.map { $0 - now }
      if cancellable { slice = min(slice ?? Self.cancellationCheck, Self.cancellationCheck) }
      var polled = pollfd(fd: descriptor, events: events, revents: 0)
      if poll(&polled, 1, slice?.pollTimeout ?? -1) > 0 { return .ready(polled.revents) }
    }
  }

  func begin(
    _ statement: String?, deadline: Duration? = nil, cancellable: Bool = true
  ) throws(PostgresError) -> Call {
    if cancellable, Task.isCancelled {
      throw PostgresError(.cancelled, "cancelled before it was sent", statement: statement)
    }
    let own = (deadline ?? settings.statementTimeout).map { ContinuousClock.now + $0 }
    let bounds = [own, transactionDeadline].compactMap { $0 }
    if let bound = bounds.min(), bound <= .now {
      throw PostgresError(.deadline, "the deadline passed before it was sent", statement: statement)
    }
    return Call(statement: statement, deadline: bounds.min(), cancellable: cancellable)
  }

  /// Sends and reads until a result can be taken without blocking.
  func settle(_ call: inout Call) throws(PostgresError) {
    let handle = try live()
    while true {
      let unsent = PQflush(handle)
      if unsent < 0 { throw lose(PostgresError(.connection, libpqMessage(handle), statement: call.statement)) }
      if PQisBusy(handle) == 0 { return }
      try exchange(&call, events: Int16(unsent > 0 ? POLLIN | POLLOUT : POLLIN))
      // Its socket is closed; what can still be taken are results that arrived before, and the loss itself.
      if PQstatus(handle) == CONNECTION_BAD { return }
    }
  }

  /// Waits once for the socket and reads what is there.
  func exchange(_ call: inout Call, events: Int16) throws(PostgresError) {
    let handle = try live()
    let interrupted = call.interruption
    let wait = waitForSocket(
      PQsocket(handle), events: events, until: interrupted?.confirmBy ?? call.deadline,
      cancellable: call.cancellable && interrupted == nil)
    switch wait {
    case .ready(let ready):
      guard Int32(ready) & ~POLLOUT != 0 else { return }
      // A failed read still leaves what arrived before it, often the reason. `collect` reads it, then the loss.
      _ = PQconsumeInput(handle)
    case .deadline:
      if interrupted != nil { throw unconfirmed(call) }
      try interrupt(&call, .deadline)
    case .cancelled:
      try interrupt(&call, .cancelled)
    }
  }

  private func interrupt(_ call: inout Call, _ kind: PostgresError.Kind) throws(PostgresError) {
    guard let request = CancelRequest(try live()) else {
      throw lose(PostgresError(kind, "no cancel request could be sent", statement: call.statement))
    }
    call.interruption = .init(kind: kind, request: request, confirmBy: .now + settings.cancelGrace)
  }

  /// The next result of the call; nil is the end of one statement.
  func nextResult(_ call: inout Call) throws(PostgresError) -> OpaquePointer? {
    try settle(&call)
    return PQgetResult(handle)
  }

  /// Reads every result of one statement. Throws what the server refused or what ended the connection.
  func collect(_ call: inout Call) throws(PostgresError) -> Answer? {
    var answer: Answer?
    var failure: PostgresError?
    while let result = try nextResult(&call) {
      switch PQresultStatus(result) {
      case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY, PGRES_SINGLE_TUPLE:
        answer = Answer(result, statement: call.statement)
        continue
      case PGRES_COPY_IN:
        failure = failure ?? PostgresError(.usage, "COPY FROM STDIN needs copyIn", statement: call.statement)
        PQputCopyEnd(handle, "not sent through copyIn")
      case PGRES_COPY_OUT, PGRES_COPY_BOTH:
        PQclear(result)
        throw lose(PostgresError(.usage, "COPY TO STDOUT is not offered", statement: call.statement))
      default:
        failure = failure ?? serverError(result, statement: call.statement)
      }
      PQclear(result)
      // A lost connection yields one failed result after another.
      if PQstatus(handle) == CONNECTION_BAD { break }
    }
    deliverNotifications()
    if PQstatus(handle) == CONNECTION_BAD {
      var cause = failure ?? PostgresError(.connection, libpqMessage(handle), statement: call.statement)
      if cause.sqlState == nil, let fatal = notices.takeFatal() {
        cause = fatal
        cause.statement = call.statement
      }
      throw lose(cause)
    }
    if let failure { throw interpreted(failure, call) }
    return answer
  }

  /// Ends a call whose results are all read: a cancel request on its way must have arrived, or it would hit the
  /// next statement.
  func finish(_ call: inout Call) throws(PostgresError) {
    guard let interruption = call.interruption else { return }
    if !interruption.request.awaitDelivery(until: interruption.confirmBy) { throw unconfirmed(call) }
  }

  /// A server error, or the interruption that caused it.
  func interpreted(_ error: PostgresError, _ call: Call) -> PostgresError {
    guard let interruption = call.interruption, error.sqlState == Self.queryCancelled else { return error }
    var interpreted = error
    interpreted.kind = interruption.kind
    interpreted.message = interruption.kind == .deadline ? "the deadline passed" : "the task was cancelled"
    return interpreted
  }

  private func unconfirmed(_ call: Call) -> PostgresError {
    let kind = call.interruption?.kind ?? .deadline
    return lose(
      PostgresError(
        kind, "\(kind == .deadline ? "the deadline passed" : "the task was cancelled") and the server did not confirm",
        statement: call.statement))
  }

  private static let queryCancelled = "57014"
}

extension Duration {
  /// For poll(2): whole milliseconds, rounded up, so that a wait does not spin at its end.
  var pollTimeout: Int32 {
    let (seconds, attoseconds) = components
    return Int32(clamping: seconds * 1_000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
  }
}
