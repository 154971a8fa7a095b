import Postgres

// Theory of operation
//
// A job that needs a database gets a login that exists for it alone. When its secret is first asked for, an admin's
// session makes the role: a member of the configured groups, few connections, a random password, and an end by the
// server's clock at the attempt's deadline. The server is sent the password's SCRAM verifier, never the password, so
// nothing it logs or shows holds it. Asked again, the attempt gets the same login.
//
// When the attempt ends, however it ends, the role is barred first (NOLOGIN, no password, no groups), then its sessions
// are ended, then it is looked whether any is left, then it is removed. In this order: a session that is ended while its
// login still works comes back.
//
// A worker that dies ends nothing. Its roles can log in until their deadline passes, and their sessions live on; so every
// worker, at its start and now and then, asks for the roles whose token belongs to no lease and ends them (`reap`).
// Whatever cannot be ended is an error that names the role. It is never taken for done.

/// PostgreSQL logins that live as long as an attempt. A secret is `role:password`, its version is the role's name.
public actor PostgresRoleSource: CredentialSource {
  public nonisolated let terms: PostgresRoleTerms
  private var made: [Int64: Task<Made, any Error>] = [:]
  /// Tokens that a role may have been made for, also where its making failed: it may have failed after the commit.
  private var asked: Set<Int64> = []
  /// Where the login of an attempt was made, by token.
  private var places: [Int64: String] = [:]
  /// Tokens of attempts that are over, until their deadline has passed by itself.
  private var over: [Int64: ContinuousClock.Instant] = [:]

  public init(_ terms: PostgresRoleTerms) {
    self.terms = terms
  }

  /// - Throws: `CredentialError` for an attempt that is over or past its deadline, where the server is away, and for a
  ///   group that is none.
  public func fetch(for attempt: CredentialAttempt) async throws(CredentialError) -> Secret {
    let token = attempt.token
    guard over[token] == nil else { throw CredentialError(.forbidden, "the attempt is over") }
    let task = made[token] ?? Task { [terms] in try await Self.make(attempt, terms) }
    made[token] = task
    asked.insert(token)
    do {
      let login = try await task.value
      guard over[token] == nil else { throw CredentialError(.forbidden, "the attempt is over") }
      places[token] = login.place
      return login.secret
    } catch {
      // So that the next one tries again.
      if made[token] == task { made[token] = nil }
      throw error as? CredentialError ?? CredentialError(.unavailable, "the role could not be made")
    }
  }

  /// - Throws: `CredentialError` of kind `notEnded` that names every role which may still be in use; `unavailable` where
  ///   the server is away. Both are for the reaper, and for somebody to read.
  public func end(_ attempt: CredentialAttempt) async throws(CredentialError) {
    let now = ContinuousClock.now
    over = over.filter { $0.value > now }
    over[attempt.token] = max(attempt.deadline, now + .seconds(60))
    let making = made.removeValue(forKey: attempt.token)
    guard asked.contains(attempt.token) else { return }
    _ = await making?.result
    let endings = try await PostgresRoles.with(terms) { roles throws(CredentialError) in
      var endings: [RoleEnding] = []
      for role in try await roles.list(token: attempt.token) { endings.append(await roles.end(role)) }
      return endings
    }
    let failed = endings.compactMap { ending in
      if case .failed(let why) = ending.outcome { "the role \(ending.role) may still be in use: \(why)" } else { nil }
    }
    guard failed.isEmpty else { throw CredentialError(.notEnded, failed.joined(separator: "; ")) }
    asked.remove(attempt.token)
    places[attempt.token] = nil
  }

  /// On which server the attempt's login is; nil where it has none.
  func place(of token: Int64) -> String? { places[token] }

  /// Ends the logins of attempts that are over. What failed is among what it returns.
  ///
  /// - Parameter isLive: whether a lease has this fencing token. Where that cannot be said, it throws, and nothing of the
  ///   token is touched.
  public func reap(isLive: @escaping @Sendable (Int64) async throws -> Bool) async throws(CredentialError)
    -> [RoleEnding]
  {
    try await PostgresRoles.with(terms) { roles throws(CredentialError) in
      var endings: [RoleEnding] = []
      for role in try await roles.list() {
        do {
          if try await isLive(role.token) { continue }
        } catch {
          let why = "it cannot be said whether its attempt is over (\(type(of: error)))"
          endings.append(RoleEnding(role: role.description, outcome: .failed(why)))
          continue
        }
        endings.append(await roles.end(role))
      }
      return endings
    }
  }

  /// The logins of attempts that the server has, and which server that is.
  func names() async throws(CredentialError) -> (place: String, names: Set<String>) {
    try await PostgresRoles.with(terms) { roles throws(CredentialError) in
      (await roles.connection.place, Set(try await roles.list().map(\.description)))
    }
  }

  private struct Made: Sendable {
    let secret: Secret
    let place: String
  }

  private static func make(
    _ attempt: CredentialAttempt, _ terms: PostgresRoleTerms
  ) async throws(CredentialError) -> Made {
    let role = PostgresRoleName(prefix: terms.prefix, token: attempt.token)
    let password = LoginPassword()
    let time = attempt.deadline - .now
    guard time > .zero else { throw CredentialError(.forbidden, "the attempt's deadline has passed") }
    let place = try await PostgresRoles.with(terms) { roles throws(CredentialError) in
      try await roles.make(role, password: password, for: time)
      return await roles.connection.place
    }
    return Made(secret: try Secret("\(role):\(password.text)", version: role.description), place: place)
  }
}
