import Broker
import Credentials
import Destinations
import FoundationEssentials
import Jobs
import Logging
import Store
import Synchronization

/// The credentials of one attempt: asked of the keeper for each request, and remembered so that none comes out with what the job
/// prints. The job never has one; an upstream may send back what it was sent.
final class AttemptCredentials: CredentialProvider {
  private let keeper: CredentialKeeper
  private let attempt: CredentialAttempt
  private let logger: Logger
  private let seen = Mutex(Seen())
  /// Why there was none, each reason once: a job may ask without end.
  private let said = Mutex<Set<String>>([])
  /// Many lines are looked through with the same secrets.
  private let made = Mutex<(generation: Int, redactor: Redactor)?>(nil)
  private let actsForSomebody: Bool

  /// Secrets that were given out, with the credential and the version that they were of.
  private struct Seen {
    var secrets: [(name: String, version: String, parts: [Secret])] = []
    /// Changes with them.
    var generation = 0
    /// Versions that the database has taken down, with the credential's name.
    var given: Set<String> = []
    /// Roles that were made for the attempt.
    var logins: [String] = []
    /// Made tokens, by credential: one serves the requests of a moment.
    var tokens: [String: MadeToken] = [:]
  }

  private struct MadeToken {
    let issued: IssuedCredential
    let audience: String
    let made = ContinuousClock.now
    /// When policies were last asked for its audience.
    var judged = ContinuousClock.now
  }

  /// Versions of one credential that are looked for in what the job prints. A token lives for five minutes, and one is made a minute.
  private static let mostVersions = 6
  static let tokenReuse = Duration.seconds(60)
  /// What a policy does not name any more is refused within the second, as what it does not grant any more is cut.
  private static let verdictReuse = Duration.milliseconds(500)

  /// Has it taken down that a credential is about to be used; false where it must not be.
  typealias Giving = @Sendable (_ name: String, Store.CredentialKind, _ version: String) async throws -> Bool
  private let give: Giving
  private let tokens: AttemptTokens?

  /// - Parameters:
  ///   - give: is asked before a version of a credential is used for the first time.
  ///   - tokens: makes tokens of the attempt; nil where this worker makes none.
  init(
    keeper: CredentialKeeper, claim: Claim, logger: Logger, give: @escaping Giving, tokens: AttemptTokens?
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

  /// What must not come out of the attempt; the generation says when there are others.
  var confidential: Confidential {
    seen.withLock { seen in
      Confidential(
        generation: seen.generation, secrets: seen.secrets.flatMap { entry in entry.parts.map { (entry.name, $0) } })
    }
  }

  struct Confidential {
    var generation: Int
    var secrets: [(name: String, secret: Secret)]
  }

  /// Looks for what must not come out of the attempt, as of now; nil where nothing was given out.
  /// - Throws: `CredentialError` where there are more secrets than can be looked for; then nothing may be stored.
  func redactor() throws(CredentialError) -> Redactor? {
    let confidential = confidential
    guard !confidential.secrets.isEmpty else { return nil }
    if let (generation, redactor) = made.withLock({ $0 }), generation == confidential.generation { return redactor }
    let redactor = try Redactor(confidential.secrets)
    made.withLock { $0 = (confidential.generation, redactor) }
    return redactor
  }

  /// What a job says, without what it may have been sent back.
  /// - Throws: as `redactor()`.
  func redact(_ document: JSONValue) throws(CredentialError) -> JSONValue {
    try redactor().map { $0.redact(document) } ?? document
  }

  func redact(_ text: String) throws(CredentialError) -> String {
    try redactor().map { $0.redact(text) } ?? text
  }

  /// For the ledger, which must go on: what cannot be looked through is left out of it.
  func concealed(_ text: String) -> String { (try? redact(text)) ?? "[withheld]" }

  /// Ends what was made for the attempt.
  /// - Returns: the logins that are gone.
  func end() async throws -> [String] {
    try await keeper.end(attempt)
    return seen.withLock { $0.logins }
  }

  private func issue(_ name: String) async throws(CredentialError) -> IssuedCredential {
    let issued: IssuedCredential
    do {
      if let kept = try await keptToken(name) { return kept }
      issued = try await keeper.credential(name, for: attempt, tokens: tokens.map { tokens in tokens.make })
      try await takeDown(issued)
    } catch {
      // Neither the job nor its ledger is told: the reason names what only whoever runs this worker may know.
      if said.withLock({ $0.insert(error.description).inserted }) {
        logger.warning("a credential cannot be had", metadata: ["credential": "\(name)", "error": "\(error)"])
      }
      throw error
    }
    seen.withLock { seen in
      // For whom an attempt acts may change at any moment, and whoever makes that token looks each time.
      if case .workloadToken(let terms)? = keeper.definitions[name]?.source, !terms.isDelegation {
        seen.tokens[name] = MadeToken(issued: issued, audience: terms.audience)
      }
      guard !seen.secrets.contains(where: { $0.name == name && $0.version == issued.version }) else { return }
      seen.secrets.append((name, issued.version, issued.confidential))
      let own = seen.secrets.indices.filter { seen.secrets[$0].name == name }
      if own.count > Self.mostVersions { seen.secrets.remove(at: own[0]) }
      seen.generation += 1
    }
    return issued
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
      isGiven = try await give(name, kind(of: issued), version)
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
