// Theory of operation
//
// One keeper belongs to a worker. The broker asks it for a credential before each request that a grant names one for; what
// it gives is used for that request and forgotten, so a secret that was rotated is used from the next request on, and one
// that was taken away stops the next. When an attempt is over, the worker tells it, and what was made for the attempt is
// ended. It answers for no policy: whether the request may be sent at all was decided before it is asked.

/// A credential as it was given out for one use.
public struct IssuedCredential: Sendable {
  public let name: String
  /// For the record.
  public let version: String
  /// How a request carries it; nil for a PostgreSQL login.
  public let request: RequestCredential?
  /// The PostgreSQL login; nil for everything else.
  public let login: UserPassword?
  /// Which server a login was made on; nil for everything else.
  public let place: String?
  /// For a `Redactor` of what the attempt prints, under `name`.
  public let confidential: [Secret]
}

/// The credentials of a worker: who may use them, and where they come from.
public struct CredentialKeeper: Sendable {
  public let definitions: [String: CredentialDefinition]
  private let sources: [String: any CredentialSource]

  /// Takes the variables that are named out of the environment, so it is made before other threads run.
  /// - Throws: `CredentialError` for a variable that is missing.
  public init(_ definitions: [String: CredentialDefinition]) throws(CredentialError) {
    var sources: [String: any CredentialSource] = [:]
    var taken: [String: EnvironmentSource] = [:]
    for (name, definition) in definitions.sorted(by: { $0.key < $1.key }) {
      switch definition.source {
      case .file(let path): sources[name] = FileSource(path: path)
      case .environment(let variable):
        // Two definitions may share one; the second would find it taken away.
        if taken[variable] == nil { taken[variable] = try Self.take(variable, for: name) }
        sources[name] = taken[variable]
      case .vault(let address): sources[name] = VaultSource(address)
      case .postgresRole(let terms): sources[name] = PostgresRoleSource(terms)
      // Made by whoever holds the attempt, who says so with each use.
      case .workloadToken: break
      }
    }
    self.init(definitions, sources: sources)
  }

  private static func take(_ variable: String, for name: String) throws(CredentialError) -> EnvironmentSource {
    do {
      return try EnvironmentSource(taking: variable)
    } catch {
      throw error.named("credentials.\(name)")
    }
  }

  init(_ definitions: [String: CredentialDefinition], sources: [String: any CredentialSource]) {
    self.definitions = definitions
    self.sources = sources
  }

  /// - Throws: `CredentialError`, which means that nothing may be sent. That there is none of this name and that the
  ///   attempt may not use it read the same to a job: neither says what others have.
  /// - Parameter tokens: makes a token of the attempt; nil where this worker makes none.
  public func credential(
    _ name: String, for attempt: CredentialAttempt,
    tokens: (@Sendable (TokenTerms) async throws(CredentialError) -> Secret)? = nil
  ) async throws(CredentialError) -> IssuedCredential {
    guard let definition = definitions[name], definition.permits(attempt) else {
      throw CredentialError(
        .forbidden,
        "no credential '\(name)' for the tenant '\(attempt.tenant)' in the queue '\(attempt.queue)' "
          + "(fix: define it for both in the worker's configuration)")
    }
    do throws(CredentialError) {
      let secret: Secret
      if case .workloadToken(let terms) = definition.source {
        guard let tokens else {
          throw CredentialError(
            .unavailable, "this worker makes no tokens (fix: cordon worker --issuer URL --issuer-keys DIR)")
        }
        secret = try await tokens(terms)
      } else if let source = sources[name] {
        secret = try await source.fetch(for: attempt)
      } else {
        throw CredentialError(.unavailable, "there is no source")
      }
      let form = definition.injection
      return IssuedCredential(
        name: name, version: secret.version,
        request: try form.map { form throws(CredentialError) in
          try RequestCredential(secret, as: form)
        },
        login: form == nil ? try UserPassword(secret) : nil,
        place: await (sources[name] as? PostgresRoleSource)?.place(of: attempt.token),
        confidential: try RequestCredential.confidentialParts(of: secret, as: form))
    } catch {
      throw error.named("credential '\(name)'")
    }
  }

  /// Ends what was made for an attempt.
  /// - Throws: `CredentialError`, after everything was tried; of kind `notEnded` where something may still be in use.
  public func end(_ attempt: CredentialAttempt) async throws(CredentialError) {
    var problems: [CredentialError] = []
    for (name, source) in sources.sorted(by: { $0.key < $1.key }) {
      do {
        try await source.end(attempt)
      } catch {
        problems.append(error.named("credential '\(name)'"))
      }
    }
    guard let first = problems.first else { return }
    throw CredentialError(
      problems.contains { $0.kind == .notEnded } ? .notEnded : first.kind,
      problems.map(\.reason).joined(separator: "; "))
  }

  /// Those of some PostgreSQL logins that their server does not have. Where it does not answer, is another than they were made on, or
  /// belongs to a credential that this worker does not have, it says nothing of them.
  public func gone(_ logins: [(credential: String, role: String, place: String?)]) async -> [String] {
    var gone: [String] = []
    for (name, asked) in Dictionary(grouping: logins, by: \.credential) {
      guard let roles = sources[name] as? PostgresRoleSource, let there = try? await roles.names() else { continue }
      // Of another prefix it would not be among them, whether it is there or not.
      gone += asked.filter { $0.place == there.place }.map(\.role)
        .filter { $0.hasPrefix(roles.terms.prefix) && !there.names.contains($0) }
    }
    return gone
  }

  /// Ends the PostgreSQL logins that workers which died have left behind; at a worker's start and now and then.
  /// What failed is among what it returns, a server that is away too.
  public func reap(isLive: @escaping @Sendable (Int64) async throws -> Bool) async -> [RoleEnding] {
    var endings: [RoleEnding] = []
    for (name, source) in sources.sorted(by: { $0.key < $1.key }) {
      guard let roles = source as? PostgresRoleSource else { continue }
      do {
        endings += try await roles.reap(isLive: isLive)
      } catch {
        endings.append(RoleEnding(role: "\(name): \(roles.terms.prefix)*", outcome: .failed(error.reason)))
      }
    }
    return endings
  }
}
