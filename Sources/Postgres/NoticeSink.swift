import CPostgres

/// Receives libpq's notices instead of its default, which writes to stderr. Used on the connection's thread only.
final class NoticeSink: @unchecked Sendable {
  private let handler: (@Sendable (Notice) -> Void)?
  /// Why the server ended the session. It says so before it closes the socket, and libpq delivers that as a notice
  /// when no statement is running.
  private var fatal: PostgresError?

  init(handler: (@Sendable (Notice) -> Void)?) {
    self.handler = handler
  }

  /// Attaches to the handle; the sink must outlive it.
  func attach(to handle: OpaquePointer) {
    PQsetNoticeReceiver(
      handle,
      { context, result in
        guard let context, let result else { return }
        Unmanaged<NoticeSink>.fromOpaque(context).takeUnretainedValue().receive(result)
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  /// Whether the server has said that it ends the session; its socket may still be open for a moment.
  var heardFatal: Bool { fatal != nil }

  func takeFatal() -> PostgresError? {
    defer { fatal = nil }
    return fatal
  }

  private func receive(_ result: OpaquePointer) {
    let report = serverError(result, statement: nil)
    let severity = report.severity ?? "NOTICE"
    if severity == "FATAL" || severity == "PANIC" { fatal = report }
    handler?(
      Notice(
        severity: severity, sqlState: report.sqlState, message: report.message, detail: report.detail,
        hint: report.hint))
  }
}

/// The `PG_DIAG_*` letters of libpq's header, which are character macros and so invisible to Swift.
private enum ReportField: Unicode.Scalar {
  case severity = "V"
  case sqlState = "C"
  case message = "M"
  case detail = "D"
  case hint = "H"
  case position = "P"
  case context = "W"
  case schema = "s"
  case table = "t"
  case column = "c"
  case dataType = "d"
  case constraint = "n"
}

/// Everything a failed result says.
func serverError(_ result: OpaquePointer, statement: String?) -> PostgresError {
  func field(_ code: ReportField) -> String? {
    PQresultErrorField(result, Int32(UInt8(ascii: code.rawValue))).map { String(cString: $0) }
  }
  let message = field(.message) ?? oneLine(String(cString: PQresultErrorMessage(result)))
  var error = PostgresError(
    .server, message, sqlState: field(.sqlState), detail: field(.detail),
    hint: field(.hint), statement: statement)
  error.severity = field(.severity)
  error.context = field(.context)
  error.schema = field(.schema)
  error.table = field(.table)
  error.column = field(.column)
  error.dataType = field(.dataType)
  error.constraint = field(.constraint)
  error.position = field(.position).flatMap { Int($0) }
  return error
}
