import CPostgres
import Glibc

extension Connection {
  /// Session settings that decoding relies on; the server's and the user's defaults may differ.
  private static let sessionSetup = """
    SET DateStyle = ISO; SET TimeZone = UTC; SET bytea_output = hex; SET extra_float_digits = 1; \
    SET standard_conforming_strings = on
    """

  /// Connects and prepares the session; a failure leaves nothing open.
  /// - Parameter deadline: for all hosts together; nil gives each `settings.connectTimeout`.
  func open(deadline: ContinuousClock.Instant?) throws(PostgresError) {
    do {
      transactionDeadline = try negotiate(deadline: deadline)
      try execute(script: Self.sessionSetup)
      transactionDeadline = nil
      watchSocket()
    } catch {
      throw lose(error)
    }
  }

  /// Takes the first host that answers. libpq passes on from a host that refuses, and stays for minutes with one that is
  /// silent, as a host is that was switched off; so the time is shared out, and when a host's is up, those behind it are
  /// tried. Returns until when the session is to be ready.
  private func negotiate(deadline: ContinuousClock.Instant?) throws(PostgresError) -> ContinuousClock.Instant {
    var hosts: HostList?
    while true {
      let handle = try start(hosts)
      let here = hosts ?? HostList(handle)
      let limit: ContinuousClock.Instant
      if let deadline {
        limit = .now + max(.zero, deadline - .now) / here.count
      } else {
        limit = .now + settings.connectTimeout
      }
      do {
        try shakeHands(handle, deadline: limit)
        return limit
      } catch {
        guard error.kind == .deadline, let rest = here.behind(handle) else { throw error }
        hosts = rest
        PQfinish(handle)
        self.handle = nil
      }
    }
  }

  /// Seconds between two looks at whether the other end is still there: some of which may be lost within the limit.
  private var probing: Int64 { max(1, settings.silenceLimit.components.seconds / 4) }

  /// - Parameter hosts: nil is what the settings name.
  private func start(_ hosts: HostList?) throws(PostgresError) -> OpaquePointer {
    guard !settings.connectionString.utf8.contains(0), !settings.applicationName.utf8.contains(0) else {
      throw PostgresError(.settings, "connection settings hold a NUL character")
    }
    let login = settings.login?()
    guard login.map({ ($0.user + $0.password).utf8.contains(0) }) != true else {
      throw PostgresError(.settings, "the login holds a NUL character")
    }
    // `dbname` is expanded into all that the text names; what follows it overrides, what precedes it does not.
    let pairs =
      [
        ("fallback_application_name", settings.applicationName), ("keepalives_idle", "\(probing)"),
        ("keepalives_interval", "\(probing)"),
        ("tcp_user_timeout", "\(settings.silenceLimit.components.seconds * 1_000)"),
        ("dbname", settings.connectionString), ("client_encoding", "UTF8"),
      ] + (login.map { [("user", $0.user), ("password", $0.password)] } ?? []) + (hosts?.options ?? [])
    let started = withCStrings(pairs.map { $0.0 }) { keywords in
      withCStrings(pairs.map { $0.1 }) { values in PQconnectStartParams(keywords, values, 1) }
    }
    guard let started else { throw PostgresError(.connection, "no memory for a connection") }
    handle = started
    notices.attach(to: started)
    // The only way to learn the SQLSTATE of a refused connection: libpq puts it into the verbose text.
    PQsetErrorVerbosity(started, PQERRORS_VERBOSE)
    if PQstatus(started) == CONNECTION_BAD {
      // libpq knows of hosts once it has understood the settings.
      let understood = PQhost(started).map { $0.pointee != 0 } ?? false
      throw ConnectFailure.error(String(cString: PQerrorMessage(started)), kind: understood ? .connection : .settings)
    }
    return started
  }

  private func shakeHands(_ handle: OpaquePointer, deadline: ContinuousClock.Instant) throws(PostgresError) {
    var next = PGRES_POLLING_WRITING
    while next != PGRES_POLLING_OK {
      switch next {
      case PGRES_POLLING_READING: try awaitHandshake(handle, Int16(POLLIN), deadline)
      case PGRES_POLLING_WRITING: try awaitHandshake(handle, Int16(POLLOUT), deadline)
      default: throw ConnectFailure.error(String(cString: PQerrorMessage(handle)), kind: .connection)
      }
      next = PQconnectPoll(handle)
    }
    PQsetErrorVerbosity(handle, PQERRORS_DEFAULT)
    guard PQsetnonblocking(handle, 1) == 0 else { throw PostgresError(.connection, libpqMessage(handle)) }
  }

  private func awaitHandshake(
    _ handle: OpaquePointer, _ events: Int16, _ deadline: ContinuousClock.Instant
  ) throws(PostgresError) {
    switch waitForSocket(PQsocket(handle), events: events, until: deadline, cancellable: true) {
    case .ready: return
    case .deadline:
      let soFar = oneLine(String(cString: PQerrorMessage(handle)))
      throw PostgresError(.deadline, "no connection in time\(soFar.isEmpty ? "" : " (so far: \(soFar))")")
    case .cancelled: throw PostgresError(.cancelled, "cancelled while connecting")
    }
  }
}

/// A refused connection as libpq words it, taken apart.
enum ConnectFailure {
  /// With verbose errors, libpq's text is `…: FATAL:  28P01: message`, then lines of `DETAIL:`, `HINT:` and
  /// `LOCATION:`; one such group a host. The last code counts, as it belongs to the last host.
  static func error(_ text: String, kind: PostgresError.Kind) -> PostgresError {
    var state: String?
    var lines: [Substring] = []
    for line in text.split(whereSeparator: \.isNewline) where !line.hasPrefix("LOCATION:") {
      guard let code = sqlState(in: line) else {
        lines.append(line)
        continue
      }
      state = String(line[code])
      lines.append(line[..<code.lowerBound] + line[line.index(code.upperBound, offsetBy: 2)...])
    }
    let message = oneLine(lines.joined(separator: "\n"))
    return PostgresError(
      kind, message.isEmpty ? "libpq gave no reason" : message, sqlState: state, isConnectionLoss: true)
  }

  /// Where `SEVERITY:  XXXXX: ` has its code; the severity may be in any language.
  private static func sqlState(in line: Substring) -> Range<Substring.Index>? {
    let bytes = line.utf8
    var start = bytes.startIndex
    while let colon = bytes[start...].firstIndex(of: UInt8(ascii: ":")) {
      start = bytes.index(after: colon)
      let rest = bytes[start...]
      let code = rest.dropFirst(2).prefix(5)
      guard rest.starts(with: "  ".utf8), code.count == 5, rest.dropFirst(7).starts(with: ": ".utf8),
        code.allSatisfy({ (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) })
      else { continue }
      return code.startIndex..<code.endIndex
    }
    return nil
  }
}

/// Calls `body` with a NULL-terminated array of C strings.
private func withCStrings<Value>(
  _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Value
) -> Value {
  let copies = strings.map { strdup($0) }
  defer { for copy in copies { free(copy) } }
  return body(copies.map { UnsafePointer($0) } + [nil])
}
