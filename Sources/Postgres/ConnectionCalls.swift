import CPostgres
import Glibc

extension Connection {
  /// Runs one statement, preparing it first where this connection has not yet.
  ///
  /// - Parameter deadline: longest time; nil takes `settings.statementTimeout`. When it passes, the server is asked
  ///   to cancel and the error is of kind `deadline`, unless the statement turns out to have finished.
  @discardableResult
  public func query(
    _ statement: Statement, _ parameters: [Parameter] = [], deadline: Duration? = nil
  ) throws(PostgresError) -> [Row] {
    let handle = try live()
    let values = try BoundParameters(parameters, statement: statement.name)
    var call = try begin(statement.name, deadline: deadline)
    let serverName: String
    if let known = try known(statement) {
      serverName = known
    } else {
      serverName = nextServerName(statement)
      try send(PQsendPrepare(handle, serverName, statement.sql, 0, nil), statement.name)
      try conclude(&call)
      prepared[statement.name] = Prepared(sql: statement.sql, serverName: serverName)
    }
    try send(values.send(handle, serverName), statement.name)
    do {
      return try conclude(&call)?.rows ?? []
    } catch {
      forgetIfStale(statement, error)
      throw error
    }
  }

  /// Runs SQL text of any number of statements in one round trip, without parameters. Without BEGIN in the text,
  /// all of them are one transaction.
  public func execute(script: String, deadline: Duration? = nil) throws(PostgresError) {
    let handle = try live()
    try requireNoNUL(script, "the script")
    var call = try begin(nil, deadline: deadline)
    try send(PQsendQuery(handle, script), nil)
    try conclude(&call)
  }

  /// Runs `body` between BEGIN and COMMIT; rolls back when it throws. The body cannot suspend, so nothing else
  /// reaches the connection in between.
  ///
  /// - Parameter deadline: longest time for everything inside together.
  public func transaction<Value: Sendable>(
    deadline: Duration? = nil, _ body: @Sendable (isolated Connection) throws -> Value
  ) throws -> Value {
    guard PQtransactionStatus(try live()) == PQTRANS_IDLE else {
      throw PostgresError(.usage, "a transaction is under way on this connection")
    }
    transactionDeadline = deadline.map { .now + $0 }
    defer { transactionDeadline = nil }
    try execute(script: "BEGIN")
    do {
      let value = try body(self)
      guard PQtransactionStatus(try live()) == PQTRANS_INTRANS else {
        throw PostgresError(.usage, "the transaction had failed, or was ended by its own body; nothing is committed")
      }
      try commit()
      return value
    } catch {
      rollBack()
      throw error
    }
  }

  /// Runs the calls in order without waiting for each answer. Every call stands for itself: one that fails does
  /// not undo or stop the others, unless a transaction is under way, which it then fails for all that follow.
  /// When the deadline passes or the task is cancelled, the call that runs at that moment is cancelled; the others
  /// say what became of them. Throws only when the connection is lost.
  public func pipeline(
    _ calls: [(Statement, [Parameter])], deadline: Duration? = nil
  ) throws(PostgresError) -> [Result<[Row], PostgresError>] {
    let handle = try live()
    var bound: [BoundParameters] = []
    for (statement, parameters) in calls { bound.append(try BoundParameters(parameters, statement: statement.name)) }
    for (statement, _) in calls { _ = try known(statement) }
    var call = try begin(calls.first?.0.name, deadline: deadline)
    guard PQenterPipelineMode(handle) == 1 else { throw PostgresError(.usage, libpqMessage(handle)) }

    var preparing: [String: Prepared] = [:]
    var preparesHere: [Bool] = []
    for ((statement, _), values) in zip(calls, bound) {
      var target = prepared[statement.name] ?? preparing[statement.name]
      preparesHere.append(target == nil)
      if target == nil {
        let new = Prepared(sql: statement.sql, serverName: nextServerName(statement))
        preparing[statement.name] = new
        target = new
        try sendOrLose(PQsendPrepare(handle, new.serverName, statement.sql, 0, nil), statement.name)
      }
      try sendOrLose(values.send(handle, target!.serverName), statement.name)
      try sendOrLose(PQpipelineSync(handle), statement.name)
    }

    var results: [Result<[Row], PostgresError>] = []
    var refused: [String: PostgresError] = [:]
    for ((statement, _), prepares) in zip(calls, preparesHere) {
      call = call.renamed(statement.name)
      if prepares {
        switch try part(&call) {
        case .success: prepared[statement.name] = preparing[statement.name]
        case .failure(let error): refused[statement.name] = error
        }
      }
      let outcome = try part(&call)
      if case .failure(let error) = outcome { forgetIfStale(statement, error) }
      results.append(refused[statement.name].map { .failure($0) } ?? outcome.map { $0?.rows ?? [] })
      // The synchronisation point that ends the call.
      PQclear(try nextResult(&call))
    }
    try finish(&call)
    guard PQexitPipelineMode(handle) == 1 else { throw lose(PostgresError(.connection, libpqMessage(handle))) }
    return results
  }

  /// Streams rows into a table and returns how many it took.
  /// - Parameter sql: a `COPY … FROM STDIN` in its default text format.
  @discardableResult
  public func copyIn(
    _ sql: String, rows: some Sequence<[Parameter]>, deadline: Duration? = nil
  ) throws(PostgresError) -> Int {
    let handle = try live()
    try requireNoNUL(sql, "the statement")
    var call = try begin(sql, deadline: deadline)
    try send(PQsendQuery(handle, sql), sql)
    try settle(&call)
    let opening = PQgetResult(handle)
    guard PQresultStatus(opening) == PGRES_COPY_IN else {
      let failed = PQresultStatus(opening) == PGRES_FATAL_ERROR
      let error = failed ? serverError(opening!, statement: sql) : PostgresError(.usage, "not a COPY FROM STDIN")
      PQclear(opening)
      try conclude(&call)
      throw interpreted(error, call)
    }
    PQclear(opening)

    var misuse: PostgresError?
    var buffer: [UInt8] = []
    sending: for row in rows {
      for parameter in row {
        if case .text(let text) = parameter.content, text.utf8.contains(0) {
          misuse = PostgresError(.usage, "a row holds a NUL character, which text cannot", statement: sql)
          break sending
        }
      }
      CopyText.append(row, to: &buffer)
      if buffer.count >= Self.copyChunk { try put(&buffer, &call) }
      if call.interruption != nil { break }
    }
    try put(&buffer, &call)
    let abort = misuse?.message ?? (call.interruption == nil ? nil : "interrupted")
    guard PQputCopyEnd(handle, abort) == 1 else {
      throw lose(PostgresError(.connection, libpqMessage(handle), statement: sql))
    }
    do {
      return Int(try conclude(&call)?.affectedRows ?? "") ?? 0
    } catch {
      throw error.isConnectionLoss ? error : misuse ?? error
    }
  }

  /// Bytes gathered before they are handed to libpq.
  private static let copyChunk = 1 << 16

  private func put(_ buffer: inout [UInt8], _ call: inout Call) throws(PostgresError) {
    let handle = try live()
    let put = buffer.withUnsafeBytes {
      PQputCopyData(handle, $0.baseAddress?.assumingMemoryBound(to: CChar.self), Int32($0.count))
    }
    guard put == 1 else { throw lose(PostgresError(.connection, libpqMessage(handle), statement: call.statement)) }
    buffer.removeAll(keepingCapacity: true)
    // Memory stays bounded: what the server does not take yet is waited for here. Once interrupted it need not go.
    while call.interruption == nil {
      let unsent = PQflush(handle)
      if unsent == 0 { return }
      if unsent < 0 { throw lose(PostgresError(.connection, libpqMessage(handle), statement: call.statement)) }
      try exchange(&call, events: Int16(POLLIN | POLLOUT))
      if PQstatus(handle) == CONNECTION_BAD { return }
    }
  }

  // MARK: Steps

  /// Reads all of a statement and settles an interruption.
  @discardableResult
  private func conclude(_ call: inout Call) throws(PostgresError) -> Answer? {
    let outcome: Result<Answer?, PostgresError>
    do { outcome = .success(try collect(&call)) } catch { outcome = .failure(error) }
    if handle != nil { try finish(&call) }
    return try outcome.get()
  }

  /// One statement of a pipeline: a failure of the statement is a value, a lost connection is thrown.
  private func part(_ call: inout Call) throws(PostgresError) -> Result<Answer?, PostgresError> {
    do {
      return .success(try collect(&call))
    } catch {
      if error.isConnectionLoss { throw error }
      return .failure(error)
    }
  }

  private func commit() throws(PostgresError) {
    let handle = try live()
    if Task.isCancelled { throw PostgresError(.cancelled, "cancelled before COMMIT") }
    // Once sent it is not interrupted by cancellation: the caller must learn whether it was committed.
    var call = try begin("COMMIT", cancellable: false)
    try send(PQsendQuery(handle, "COMMIT"), "COMMIT")
    try conclude(&call)
  }

  /// Ends a failed transaction whatever the state of the task. A connection that cannot is given up.
  private func rollBack() {
    guard let handle, PQtransactionStatus(handle) != PQTRANS_IDLE else { return }
    transactionDeadline = nil
    do {
      var call = try begin("ROLLBACK", deadline: settings.cancelGrace, cancellable: false)
      try send(PQsendQuery(handle, "ROLLBACK"), "ROLLBACK")
      try conclude(&call)
    } catch {
      _ = lose(error)
    }
  }

  private func send(_ status: Int32, _ statement: String?) throws(PostgresError) {
    guard status != 1 else { return }
    let error = PostgresError(.usage, libpqMessage(handle), statement: statement)
    throw PQstatus(handle) == CONNECTION_BAD ? lose(error) : error
  }

  /// In the middle of a pipeline there is no way back to a clean state.
  private func sendOrLose(_ status: Int32, _ statement: String?) throws(PostgresError) {
    guard status != 1 else { return }
    throw lose(PostgresError(.connection, libpqMessage(handle), statement: statement))
  }

  private func known(_ statement: Statement) throws(PostgresError) -> String? {
    try requireNoNUL(statement.sql, "the statement")
    guard let entry = prepared[statement.name] else { return nil }
    guard entry.sql == statement.sql else {
      throw PostgresError(.usage, "two statements have one name", statement: statement.name)
    }
    return entry.serverName
  }

  /// Unique on the server, which cuts names at 63 bytes; the number in front stays.
  private func nextServerName(_ statement: Statement) -> String {
    preparedCount += 1
    return "c\(preparedCount)_" + String(statement.name.unicodeScalars.filter { $0.isASCII && $0 != "\0" }.prefix(40))
  }

  /// After `DISCARD`, or when a migration changed what a statement returns, it is prepared anew next time.
  private func forgetIfStale(_ statement: Statement, _ error: PostgresError) {
    if error.sqlState == "26000" || error.sqlState == "0A000" { prepared[statement.name] = nil }
  }

  private func requireNoNUL(_ text: String, _ what: String) throws(PostgresError) {
    guard !text.utf8.contains(0) else { throw PostgresError(.usage, "\(what) holds a NUL character") }
  }
}

extension Call {
  func renamed(_ statement: String?) -> Call {
    Call(statement: statement, deadline: deadline, cancellable: cancellable, interruption: interruption)
  }
}

extension Answer {
  /// The count in the command's tag, empty where it has none.
  var affectedRows: String { String(cString: PQcmdTuples(result)) }
}

/// Parameters laid out as libpq takes them: one buffer, text ended by NUL.
struct BoundParameters {
  private var storage: [UInt8] = []
  private var offsets: [Int?] = []
  private var lengths: [Int32] = []
  private var formats: [Int32] = []

  init(_ parameters: [Parameter], statement: String) throws(PostgresError) {
    for (index, parameter) in parameters.enumerated() {
      switch parameter.content {
      case .null:
        offsets.append(nil)
        lengths.append(0)
        formats.append(0)
      case .text(let text):
        guard !text.utf8.contains(0) else {
          throw PostgresError(
            .usage, "parameter $\(index + 1) holds a NUL character, which text cannot", statement: statement)
        }
        offsets.append(storage.count)
        lengths.append(0)
        formats.append(0)
        storage.append(contentsOf: text.utf8)
        storage.append(0)
      case .binary(let bytes):
        guard let length = Int32(exactly: bytes.count) else {
          throw PostgresError(.usage, "parameter $\(index + 1) is over 2 GiB", statement: statement)
        }
        offsets.append(storage.count)
        lengths.append(length)
        formats.append(1)
        storage.append(contentsOf: bytes)
        storage.append(0)
      }
    }
  }

  func send(_ handle: OpaquePointer, _ serverName: String) -> Int32 {
    storage.withUnsafeBytes { buffer in
      let values = offsets.map { offset in
        offset.map { buffer.baseAddress!.advanced(by: $0).assumingMemoryBound(to: CChar.self) }
      }
      return PQsendQueryPrepared(handle, serverName, Int32(offsets.count), values, lengths, formats, 0)
    }
  }
}
