import Postgres

/// What became of a login whose attempt is over.
public struct RoleEnding: Sendable, Equatable {
  public enum Outcome: Sendable, Equatable {
    case removed
    /// Nobody can use it, but it is there: something in another database belongs to it, for example.
    case disabled(String)
    /// It may still be in use.
    case failed(String)
  }

  public let role: String
  public let outcome: Outcome

  public init(role: String, outcome: Outcome) {
    self.role = role
    self.outcome = outcome
  }
}

/// The logins of attempts on one server, by one admin's session.
struct PostgresRoles: Sendable {
  let connection: Connection
  let terms: PostgresRoleTerms

  /// Longest time that a session may take to end after it was told to.
  static let endingLimit = Duration.seconds(5)
  private static let statementLimit = Duration.seconds(10)

  /// Opens the admin's session, lets `body` work and closes it. What is begun is finished, also where the caller's task is
  /// cancelled: a worker that shuts down ends its attempts in such a task.
  static func with<Value: Sendable>(
    _ terms: PostgresRoleTerms, _ body: @escaping @Sendable (PostgresRoles) async throws(CredentialError) -> Value
  ) async throws(CredentialError) -> Value {
    let work = Task { () async -> Result<Value, CredentialError> in
      do throws(CredentialError) {
        let connection = try await connect(terms)
        let outcome: Result<Value, CredentialError>
        do throws(CredentialError) {
          outcome = .success(try await body(PostgresRoles(connection: connection, terms: terms)))
        } catch {
          outcome = .failure(error)
        }
        await connection.close()
        return outcome
      } catch {
        return .failure(error)
      }
    }
    return try await work.value.get()
  }

  private static func connect(_ terms: PostgresRoleTerms) async throws(CredentialError) -> Connection {
    let file = terms.adminFile
    guard let url = try FileSource(path: file).read().text else {
      throw CredentialError(.unusable, "\(file): holds no connection string")
    }
    do {
      return try await Connection.connect(
        ConnectionSettings(url, applicationName: "cordon credentials", statementTimeout: statementLimit))
    } catch {
      // libpq quotes what it does not understand of a connection string.
      let why = error.kind == .settings ? "no connection string that libpq understands" : error.message
      throw CredentialError(.unavailable, "the admin's session (\(file)): \(why)")
    }
  }

  func make(_ role: PostgresRoleName, password: LoginPassword, for time: Duration) async throws(CredentialError) {
    let verifier = password.verifier()
    let seconds = Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
    do {
      try await run(PostgresRoleStatements.make, role, verifier: verifier, seconds: seconds)
    } catch {
      throw error.sqlState == "CR001"
        ? CredentialError(.refused, error.message)
        : CredentialError(.unavailable, "the role \(role) could not be made: \(Self.said(error))")
    }
  }

  func list(token: Int64? = nil) async throws(CredentialError) -> [PostgresRoleName] {
    do {
      let beginning = terms.prefix + (token.map { "\($0)_" } ?? "")
      let rows = try await connection.query(PostgresRoleStatements.list, [Parameter(beginning)])
      var roles: [PostgresRoleName] = []
      for row in rows {
        if let role = PostgresRoleName(try row.get("name", as: String.self), prefix: terms.prefix) {
          roles.append(role)
        }
      }
      return roles
    } catch {
      throw CredentialError(.unavailable, "the roles of attempts could not be listed: \(Self.said(error))")
    }
  }

  /// Bars the login, ends its sessions, sees that none is left, and removes it where that is possible.
  func end(_ role: PostgresRoleName) async -> RoleEnding {
    do {
      // Gone already, by whoever ended it at the same time.
      guard try await look(role) != nil else { return RoleEnding(role: role.description, outcome: .removed) }
      try await run(PostgresRoleStatements.bar, role)
      if let left = try await endSessions(role) { return RoleEnding(role: role.description, outcome: .failed(left)) }
    } catch {
      return RoleEnding(role: role.description, outcome: .failed(Self.said(error)))
    }
    do {
      try await run(PostgresRoleStatements.drop, role)
      return RoleEnding(role: role.description, outcome: .removed)
    } catch {
      return RoleEnding(role: role.description, outcome: await isGone(role) ? .removed : .disabled(Self.said(error)))
    }
  }

  /// A session that was let in just before the bar is not listed yet, so one empty look is not enough. Nil when none is left.
  private func endSessions(_ role: PostgresRoleName) async throws(PostgresError) -> String? {
    let end = ContinuousClock.now + Self.endingLimit
    var empty = 0
    while true {
      try await connection.query(PostgresRoleStatements.terminate, [Parameter(role.description)])
      guard let left = try await look(role) else { return nil }
      guard !left.enters else { return "it may log in again: somebody else changed it" }
      empty = left.sessions == 0 ? empty + 1 : 0
      if empty == Self.looks {
        return left.prepared == 0
          ? nil : "\(left.prepared) prepared transactions of it hold locks (fix: ROLLBACK PREPARED)"
      }
      guard ContinuousClock.now < end else { return "\(left.sessions) sessions are alive after \(Self.endingLimit)" }
      try? await Task.sleep(for: .milliseconds(20))
    }
  }

  private static let looks = 3

  private struct Remains: Sendable {
    let enters: Bool
    let sessions: Int
    let prepared: Int
  }

  private func isGone(_ role: PostgresRoleName) async -> Bool {
    do { return try await look(role) == nil } catch { return false }
  }

  private func look(_ role: PostgresRoleName) async throws(PostgresError) -> Remains? {
    guard let row = try await connection.query(PostgresRoleStatements.look, [Parameter(role.description)]).first else {
      return nil
    }
    return Remains(enters: try row.get("enters"), sessions: try row.get("sessions"), prepared: try row.get("prepared"))
  }

  private func run(
    _ statement: Statement, _ role: PostgresRoleName, verifier: String = "", seconds: Double = 0
  ) async throws(PostgresError) {
    let parameters: [Parameter] = [
      Parameter(role.description), Parameter(verifier), Parameter(seconds), Parameter(terms.connectionLimit),
      Parameter(terms.groups),
    ]
    do {
      try await connection.transaction { session in
        try session.query(PostgresRoleStatements.say, parameters)
        try session.query(statement)
      }
    } catch let error as PostgresError {
      throw error
    } catch {
      throw PostgresError(.usage, "\(type(of: error))")
    }
  }

  /// Without the context, which quotes statements.
  private static func said(_ error: PostgresError) -> String {
    error.message + (error.sqlState.map { " (\($0))" } ?? "")
  }
}
