import FoundationEssentials

// Theory of operation
//
// Outside a cell, the worker that has started an attempt asks for a token each time one is to be injected into a request: for one
// audience, for minutes. It names the deadline of the attempt's lease and the database's clock, which it has from the database. The
// token shares the attempt's life in three ways: it ends with the lease's deadline at the latest; introspection asks the database
// whether the attempt still lives; and the worker stops injecting when the attempt is over. A relying party that only looks at the
// signature relies on the first of these, so the life of a token is short.

/// Makes tokens with the current keys of a directory, which is read each time: a rotation is in force at once.
public struct TokenIssuer: Sendable {
  public let url: IssuerURL
  public let trustDomain: TrustDomain
  let keys: KeyDirectory

  public init(url: IssuerURL, trustDomain: TrustDomain, keys: KeyDirectory) {
    self.url = url
    self.trustDomain = trustDomain
    self.keys = keys
  }

  /// A token that says who an attempt is.
  /// - Throws: `TokenProblem`, `NameProblem` for a component that is none; `FileProblem`, `KeyRingProblem` for keys that are not to be
  ///   used.
  public func workloadToken(
    for attempt: AttemptIdentity, audience: String, lifetime: TokenLifetime, algorithm: SigningAlgorithm = .es256
  ) async throws -> String {
    let subject = try WorkloadSubject(trustDomain, tenant: attempt.tenant, queue: attempt.queue)
    return try await sign(
      .workload, subject: "\(subject)", audience: audience, issuedAt: lifetime.issuedAt, expiresAt: lifetime.expiresAt,
      delegation: nil, attempt: attempt, algorithm)
  }

  /// A token by which an attempt acts on behalf of a person: the delegation, one step further, to the job.
  /// - Parameter scopes: a subset of the delegation's.
  public func delegationToken(
    _ delegation: Delegation, scopes: Set<String>, for attempt: AttemptIdentity, audience: String,
    lifetime: TokenLifetime, algorithm: SigningAlgorithm = .es256
  ) async throws -> String {
    let job = try WorkloadSubject(trustDomain, tenant: attempt.tenant, queue: attempt.queue)
    let end = min(delegation.expiresAt, Date(timeIntervalSince1970: Double(lifetime.expiresAt)))
    let step = try delegation.delegated(to: "\(job)", scopes: scopes, expiresAt: end)
    return try await token(of: step, attempt, audience: audience, issuedAt: lifetime.issuedAt, algorithm)
  }

  /// A token by which somebody who is no job, such as an agent, shows for whom it acts. Nothing but its end takes it back.
  public func delegationToken(
    _ delegation: Delegation, audience: String, now: Date, algorithm: SigningAlgorithm = .es256
  ) async throws -> String {
    let lifetime = try TokenLifetime(now: now, deadline: delegation.expiresAt)
    let short = try Delegation(
      person: delegation.person, actors: delegation.actors, scopes: delegation.scopes,
      expiresAt: Date(timeIntervalSince1970: Double(lifetime.expiresAt)))
    return try await token(of: short, nil, audience: audience, issuedAt: lifetime.issuedAt, algorithm)
  }

  private func token(
    of delegation: Delegation, _ attempt: AttemptIdentity?, audience: String, issuedAt: Int64,
    _ algorithm: SigningAlgorithm
  ) async throws -> String {
    let end = Int64(delegation.expiresAt.timeIntervalSince1970.rounded(.down))
    guard end > issuedAt else { throw TokenProblem.expired }
    return try await sign(
      .delegation, subject: delegation.person, audience: audience, issuedAt: issuedAt, expiresAt: end,
      delegation: delegation, attempt: attempt, algorithm)
  }

  private func sign(
    _ kind: TokenKind, subject: String, audience: String, issuedAt: Int64, expiresAt: Int64, delegation: Delegation?,
    attempt: AttemptIdentity?, _ algorithm: SigningAlgorithm
  ) async throws -> String {
    try attempt?.validate()
    try Audience.check(audience)
    var generator = SystemRandomNumberGenerator()
    let claims = TokenClaims(
      iss: url.description, sub: subject, aud: audience, iat: issuedAt, nbf: issuedAt, exp: expiresAt,
      jti: Base64URL.encode((0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }),
      scope: delegation?.scopeText, act: delegation?.actClaim, cordon: attempt)
    return try await keys.signingKey(algorithm).sign(Payload(claims), type: kind.rawValue)
  }
}

enum Audience {
  /// Relying parties name themselves by a URL or a word.
  static func check(_ text: String) throws(TokenProblem) {
    guard (1...255).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw .claim("aud", "is not 1 to 255 printing ASCII characters without spaces")
    }
  }
}
