import FoundationEssentials

/// On whose behalf somebody acts, through whom, and what for (RFC 8693, section 4.1). It only ever gets narrower.
public struct Delegation: Equatable, Sendable {
  /// Whose rights they are.
  public let person: String
  /// Whom the person let act, and whom that one let act in turn; the last one acts now.
  public let actors: [String]
  /// What for. Never empty: who may do nothing needs no token.
  public let scopes: Set<String>
  public let expiresAt: Date

  /// A person, an agent, the agent it calls, the job that one enqueues.
  public static let deepest = 4
  /// So that a token stays below the 8 KiB that servers allow for a header.
  public static let mostScopes = 32

  /// The first step: a person lets somebody act.
  public init(person: String, to actor: String, scopes: Set<String>, expiresAt: Date) throws(TokenProblem) {
    try self.init(person: person, actors: [actor], scopes: scopes, expiresAt: expiresAt)
  }

  /// The next step: who acts now lets somebody else act, for no more and no longer.
  public func delegated(
    to actor: String, scopes: Set<String>, expiresAt: Date
  ) throws(TokenProblem) -> Delegation {
    if let wider = scopes.subtracting(self.scopes).min() { throw .widerScope(wider) }
    guard expiresAt <= self.expiresAt else {
      throw .claim("exp", "is later than that of the delegation it follows from")
    }
    return try Delegation(person: person, actors: actors + [actor], scopes: scopes, expiresAt: expiresAt)
  }

  init(person: String, actors: [String], scopes: Set<String>, expiresAt: Date) throws(TokenProblem) {
    try PartyName.check(person, "sub")
    // A relying party that looks at nothing but `sub` must not take a person for a workload.
    guard !person.lowercased().hasPrefix("spiffe:") else {
      throw .claim("sub", "is a workload's, and a person's was due")
    }
    guard (1...Self.deepest).contains(actors.count) else { throw .tooDeep }
    for actor in actors { try PartyName.check(actor, "act") }
    guard (1...Self.mostScopes).contains(scopes.count) else {
      throw .claim("scope", "has not 1 to \(Self.mostScopes) words")
    }
    for scope in scopes {
      // RFC 6749, section 3.3.
      let isOne = scope.utf8.allSatisfy { $0 == 0x21 || (0x23...0x5b).contains($0) || (0x5d...0x7e).contains($0) }
      guard isOne, (1...64).contains(scope.utf8.count) else {
        throw .claim("scope", "has a word that is not 1 to 64 printing characters without quotes and backslashes")
      }
    }
    self.person = person
    self.actors = actors
    self.scopes = scopes
    self.expiresAt = expiresAt
  }

  /// As the claim `scope` spells them; sorted, so that one delegation has one spelling.
  var scopeText: String { scopes.sorted().joined(separator: " ") }

  /// As the claim `act` has them: who acts now stands outside, those before within.
  var actClaim: ActorClaim? {
    actors.reduce(nil as ActorClaim?) { ActorClaim(sub: $1, act: $0) }
  }
}

/// The claim `act` of RFC 8693, section 4.1.
public final class ActorClaim: Codable, Equatable, Sendable {
  public let sub: String
  public let act: ActorClaim?

  init(sub: String, act: ActorClaim?) {
    self.sub = sub
    self.act = act
  }

  /// The first one first, as a `Delegation` has them.
  var chain: [String] { (act?.chain ?? []) + [sub] }

  public static func == (left: ActorClaim, right: ActorClaim) -> Bool { left.chain == right.chain }
}
