import Broker
import Credentials
import Destinations
import FoundationEssentials
import Identity
import Jobs
import Logging
import Store
import Synchronization

/// The credentials of one attempt: asked of the keeper for each request, and remembered so that none comes out with what the job
/// prints. The job never has one; an upstream may send back what it was sent.
///
/// Whoever asks is given a secret only when what looks for it is there: so a text is never in need of a redactor that is still to be
/// made, and what cannot be looked for is refused before it is used.
final class AttemptCredentials: CredentialProvider {
  private let keeper: CredentialKeeper
  private let attempt: CredentialAttempt
  private let logger: Logger
  private let seen = Mutex(Seen())
  /// Why there was none, each reason once: a job may ask without end.
  private let said = Mutex<Set<String>>([])
  private let admissions = Admissions()
  private let actsForSomebody: Bool

  /// Secrets that were given out, with the credential that they were of.
  private struct Seen {
    var secrets: [SeenSecret] = []
    /// For all of them; many lines are looked through with the same.
    var search: Search?
    /// Versions that the database has taken down, with the credential's name.
    var given: Set<String> = []
    /// Roles that were made for the attempt.
    var logins: [String] = []
    /// Made tokens, by credential: one serves the requests of a moment.
    var tokens: [String: MadeToken] = [:]
    /// Tokens that are being made, by credential: whoever asks meanwhile is given the same.
    var making: [String: Task<IssuedCredential, any Error>] = [:]

    func looksFor(_ issued: IssuedCredential) -> Bool {
      // By its bytes: what was written twice within a tick of a clock has one version.
      secrets.contains { $0.name == issued.name && $0.parts == issued.confidential }
    }
  }

  private struct SeenSecret {
    let name: String
    let parts: [Secret]
    /// When it is worth nothing any more; nil: nobody here knows.
    let over: ContinuousClock.Instant?
  }

  /// What looks for secrets; the generation says when it is for others.
  struct Search: Sendable {
    let generation: Int
    let redactor: Redactor
  }

  /// Secrets come to those that are looked for one after another.
  private actor Admissions {
    func perform(_ admit: () throws(CredentialError) -> Void) throws(CredentialError) { try admit() }
  }

  private struct MadeToken {
    let issued: IssuedCredential
    let audience: String
    let made = ContinuousClock.now
    /// When policies were last asked for its audience.
    var judged = ContinuousClock.now
  }

  /// A token is looked for as long as it is good. Of any other secret nobody here knows when it is worth nothing.
  static let tokenLife = Duration.seconds(TokenLifetime.longest)
  static let tokenReuse = Duration.seconds(60)
  /// What a policy does not name any more is refused within the second, as what it does not grant any more is cut.
  private static let verdictReuse = Duration.milliseconds(500)

  /// Has it taken down that a credential is about to be used; false where it must not be.
  typealias Giving =
    @Sendable (_ name: String, Store.CredentialKind, _ version: String, _ place: String?) async throws -> Bool
  private let give: Giving
  private let tokens: TokenMaker?

  /// Makes tokens of an attempt, and says whether policies still name whom one is for.
  struct TokenMaker: Sendable {
    let judge: @Sendable (_ audience: String) async throws(CredentialError) -> Void
    let make: @Sendable (TokenTerms) async throws(CredentialError) -> Secret
  }

  /// - Parameters:
  ///   - give: is asked before a version of a credential is used for the first time.
  ///   - tokens: makes tokens of the attempt; nil where this worker makes none.
  init(
    keeper: CredentialKeeper, claim: Claim, logger: Logger, give: @escaping Giving, tokens: TokenMaker?
  ) {
    self.give = give
    self.tokens = tokens
    self.keeper = keeper
    self.logger = logger
    actsForSomebody = claim.specification?.onBehalfOf != nil
    let longest = Duration.milliseconds(claim.limits.wallMilliseconds + claim.limits.graceMilliseconds)
    attempt = CredentialAttempt(
      job: claim.job.description, attempt: claim.attempt, token: claim.token, tenant: claim.tenant, queue: claim.queue,
      deadline: .now + longest)
  }

  func injection(for grant: Grant, attempt _: AttemptAddress) async throws -> Injection? {
    guard let name = grant.credential else { return nil }
    let issued: IssuedCredential
    do {
      issued = try await issue(name)
    } catch {
      guard error.kind == .policy else { throw error }
      // That much may be told: it is the policy's, and not of the worker's file.
      throw CredentialRefusal("the policy's audiences do not name whom its token is for")
    }
    switch issued.request {
    case .field(let name, let value)?:
      return .header(
        name: name, value: value.withBytes { String(decoding: $0, as: UTF8.self) }, version: issued.version)
    case .signature(let signer)?: return .sign(version: issued.version) { try Self.sign($0, signer) }
    // Nothing that a query carries is ever put there by us: it stands in every log on the way.
    case .query?, nil: return nil
    }
  }

  /// Sees that each credential is there before anything runs. (A token is made for an attempt that runs, and so not yet.)
  /// - Throws: `CredentialError`.
  func check(_ grants: [Grant]) async throws {
    for name in Set(grants.compactMap(\.credential)) {
      if let definition = keeper.definitions[name], case .workloadToken(let terms) = definition.source, tokens != nil,
        definition.permits(attempt)
      {
        guard actsForSomebody || !terms.isDelegation else {
          throw CredentialError(.forbidden, "credential '\(name)': \(Self.actsForNobody)")
        }
        continue
      }
      _ = try await issue(name)
    }
  }

  static let actsForNobody =
    "it says for whom a job acts, and this one acts for nobody (fix: on_behalf_of in the specification)"

  /// - Throws: `CredentialError` also for a credential that is put into requests: that one enters no cell.
  func login(_ name: String) async throws -> UserPassword {
    guard let login = try await issue(name).login else {
      throw CredentialError(.forbidden, "credential '\(name)' is no login, so a grant of mode tcp cannot use it")
    }
    return login
  }

  /// Looks for what must not come out of the attempt, as of now; nil where nothing was given out.
  var search: Search? { seen.withLock { $0.search } }

  /// What a job says, without what it may have been sent back.
  func redact(_ document: JSONValue) -> JSONValue { search?.redactor.redact(document) ?? document }

  func redact(_ text: String) -> String { search?.redactor.redact(text) ?? text }

  /// Ends what was made for the attempt.
  /// - Returns: the logins that are gone.
  func end() async throws -> [String] {
    try await keeper.end(attempt)
    return seen.withLock { $0.logins }
  }

  private func issue(_ name: String) async throws(CredentialError) -> IssuedCredential {
    do {
      guard case .workloadToken(let terms)? = keeper.definitions[name]?.source else { return try await fetch(name) }
      // Each token that is made is one more to look for, and a job has many connections to ask by.
      let making = seen.withLock { seen in
        let making =
          seen.making[name]
          ?? Task {
            defer { self.seen.withLock { $0.making[name] = nil } }
            return try await self.token(name, terms)
          }
        seen.making[name] = making
        return making
      }
      return try await making.value
    } catch {
      let error = error as? CredentialError ?? CredentialError(.unavailable, "credential '\(name)' could not be had")
      // Neither the job nor its ledger is told: the reason names what only whoever runs this worker may know.
      if said.withLock({ $0.insert(error.description).inserted }) {
        logger.warning("a credential cannot be had", metadata: ["credential": "\(name)", "error": "\(error)"])
      }
      throw error
    }
  }

  private func token(_ name: String, _ terms: TokenTerms) async throws(CredentialError) -> IssuedCredential {
    if let kept = try await keptToken(name) { return kept }
    let issued = try await fetch(name)
    // For whom an attempt acts may change at any moment, and whoever makes that token looks each time.
    if !terms.isDelegation {
      seen.withLock { $0.tokens[name] = MadeToken(issued: issued, audience: terms.audience) }
    }
    return issued
  }

  private func fetch(_ name: String) async throws(CredentialError) -> IssuedCredential {
    let issued = try await keeper.credential(name, for: attempt, tokens: tokens.map { tokens in tokens.make })
    try await lookFor(issued)
    try await takeDown(issued)
    return issued
  }

  /// - Throws: `CredentialError` where there are more secrets than can be looked for; then it must not be used.
  private func lookFor(_ issued: IssuedCredential) async throws(CredentialError) {
    guard !seen.withLock({ $0.looksFor(issued) }) else { return }
    try await admissions.perform { () throws(CredentialError) in
      guard !seen.withLock({ $0.looksFor(issued) }) else { return }
      let now = ContinuousClock.now
      var secrets = seen.withLock { $0.secrets.filter { $0.over.map { now < $0 } ?? true } }
      secrets.append(
        SeenSecret(
          name: issued.name, parts: issued.confidential,
          over: kind(of: issued) == .token ? now + Self.tokenLife : nil))
      let redactor = try Redactor(secrets.flatMap { entry in entry.parts.map { (entry.name, $0) } })
      seen.withLock { seen in
        seen.secrets = secrets
        seen.search = Search(generation: (seen.search?.generation ?? 0) + 1, redactor: redactor)
      }
    }
  }

  /// A token that was made a moment ago, if policies still name whom it is for.
  private func keptToken(_ name: String) async throws(CredentialError) -> IssuedCredential? {
    guard let tokens, let kept = seen.withLock({ $0.tokens[name] }), .now - kept.made < Self.tokenReuse else {
      return nil
    }
    if .now - kept.judged < Self.verdictReuse { return kept.issued }
    let asked = ContinuousClock.now
    do {
      try await tokens.judge(kept.audience)
    } catch {
      guard error.kind == .unavailable else { throw error }
      // What a database that is away would say is settled for all credentials at once (`Worker.withholdInSilence`).
      return kept.issued
    }
    seen.withLock { $0.tokens[name]?.judged = asked }
    return kept.issued
  }

  private func takeDown(_ issued: IssuedCredential) async throws(CredentialError) {
    let (name, version) = (issued.name, issued.version)
    guard !seen.withLock({ $0.given.contains(version + " " + name) }) else { return }
    let isGiven: Bool
    do {
      isGiven = try await give(name, kind(of: issued), version, issued.place)
    } catch {
      throw CredentialError(.unavailable, "the database cannot take down that '\(name)' is used: \(error)")
    }
    guard isGiven else { throw CredentialError(.forbidden, "the attempt is not held any more, or stands still") }
    seen.withLock { seen in
      seen.given.insert(version + " " + name)
      if issued.login != nil { seen.logins.append(version) }
    }
  }

  private func kind(of issued: IssuedCredential) -> Store.CredentialKind {
    if issued.login != nil { return .login }
    if case .workloadToken? = keeper.definitions[issued.name]?.source { return .token }
    return .request
  }

  private static func sign(_ request: Injection.OutgoingRequest, _ signer: AWSSigner) throws -> [HeadSection.Field] {
    let (path, query) =
      request.target.firstIndex(of: "?").map { mark in
        (String(request.target[..<mark]), String(request.target[request.target.index(after: mark)...]))
      } ?? (request.target, "")
    // A body is passed on as it comes, so its digest is not known before the head is sent; S3 takes it unsigned, others refuse.
    let isBare = ["GET", "HEAD", "DELETE"].contains(request.method)
    let fields = request.fields.map { (name: $0.name, value: $0.value) } + [(name: "Host", value: request.host)]
    return try signer.sign(
      AWSRequest(
        method: request.method, path: path, query: query, fields: fields,
        payload: isBare ? AWSRequest.emptyPayload : .unsigned), at: Date()
    ).map { HeadSection.Field(name: $0.name, value: $0.value) }
  }
}
