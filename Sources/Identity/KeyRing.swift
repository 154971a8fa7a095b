import FoundationEssentials

// Theory of operation
//
// A relying party that meets a key it has not seen fetches the issuer's key set, and keeps what it fetched for a while. So a key goes
// through three states, and the set names it in all of them:
//
//   next      published, signs nothing yet. After its grace every relying party that keeps to the caching time has it.
//   current   signs. One an algorithm.
//   retired   signs no more. It stays published until the longest token that it can have signed is over, and is then forgotten. Its
//             private half is erased when it retires: nothing needs it.
//
// Each rotation makes the next key current, the current one retired, and a fresh one next. So there is always a key at hand that
// relying parties know, also on the day when the current one is lost to somebody: then nobody waits, and what it signed is void.

/// Which keys an issuer has, and in which state: a value that decides, without files and clocks.
public struct KeyRing: Codable, Equatable, Sendable {
  public enum State: String, Codable, Sendable {
    case current, next, retired
  }

  /// One key.
  public struct Entry: Codable, Equatable, Sendable {
    /// The thumbprint of the key (RFC 7638).
    public let kid: String
    public let algorithm: SigningAlgorithm
    public let created: Date
    public fileprivate(set) var state: State
    /// When a `next` key may begin to sign.
    public fileprivate(set) var usableAt: Date?
    /// When a `retired` key is forgotten.
    public fileprivate(set) var retireAt: Date?
    let jwk: PublicKey

    enum CodingKeys: String, CodingKey {
      case kid, algorithm, created, state, jwk
      case usableAt = "usable_at"
      case retireAt = "retire_at"
    }
  }

  /// What is to be done with private halves, in this order around the moment at which the new ring is in force.
  public enum Action: Equatable, Sendable {
    /// Keep this one's private half. Before the ring that names it.
    case store(kid: String)
    case commit
    /// Erase each private half that no key of the ring signs with: the retired one's, and what a rotation that was cut off has left.
    /// After the ring.
    case sweep
  }

  public private(set) var keys: [Entry] = []

  public init() {}

  /// How long a relying party may keep a key set it has fetched, in seconds: the `max-age` it is served with.
  public static let cachingTime = 300
  /// How long a signer may go on with the ring it has, in seconds: on other hosts, until the directory is copied there.
  public static let readAgainAfter = 600
  /// How long a retired key stays published, in seconds: by then whoever signed has read the new ring, and the last token is over.
  public static let retirement = readAgainAfter + TokenLifetime.longest

  /// The keys that relying parties are told of.
  public func published(at now: Date) -> [Entry] {
    keys.filter { $0.retireAt.map { now < $0 } ?? true }
  }

  /// The key that signs; nil where the issuer has none of this algorithm.
  public func current(_ algorithm: SigningAlgorithm) -> Entry? {
    keys.first { $0.algorithm == algorithm && $0.state == .current }
  }

  /// The algorithms it has keys of, ES256 first.
  public var algorithms: [SigningAlgorithm] { SigningAlgorithm.allCases.filter { current($0) != nil } }

  /// Begins with an algorithm: a key that signs at once, since nobody has fetched a set without it, and the next one.
  /// - Parameter grace: seconds that the next key is published before it may sign.
  mutating func begin(
    current: PublicKey, next: PublicKey, at now: Date, grace: Int
  ) throws(KeyRingProblem) -> [Action] {
    precondition(current.algorithm == next.algorithm)
    guard self.current(current.algorithm) == nil else { throw .exists(current.algorithm) }
    try Self.check(grace: grace)
    keys.append(Entry(kid: current.id, algorithm: current.algorithm, created: now, state: .current, jwk: current))
    keys.append(Self.next(next, at: now, grace: grace))
    return [.store(kid: current.id), .store(kid: next.id), .commit]
  }

  /// Makes the next key current and `fresh` the next one, and forgets what is over.
  /// - Parameter compromised: the current key is somebody else's by now. Then the next one signs at once, and the current one is
  ///   published no more, so that what it signed is void wherever the set is fetched anew.
  mutating func rotate(
    fresh: PublicKey, at now: Date, grace: Int, compromised: Bool
  ) throws(KeyRingProblem) -> [Action] {
    let algorithm = fresh.algorithm
    try Self.check(grace: grace)
    guard let old = keys.firstIndex(where: { $0.algorithm == algorithm && $0.state == .current }),
      let new = keys.firstIndex(where: { $0.algorithm == algorithm && $0.state == .next })
    else { throw .missing(algorithm) }
    if let usableAt = keys[new].usableAt, now < usableAt, !compromised {
      throw .tooEarly(algorithm, usableAt: usableAt)
    }
    keys[new].state = .current
    keys[new].usableAt = nil
    keys[old].state = .retired
    keys[old].retireAt = now.addingTimeInterval(compromised ? 0 : Double(Self.retirement))
    keys = published(at: now)
    keys.append(Self.next(fresh, at: now, grace: grace))
    return [.store(kid: fresh.id), .commit, .sweep]
  }

  /// The keys whose private halves are kept.
  var signing: [Entry] { keys.filter { $0.state != .retired } }

  private static func next(_ key: PublicKey, at now: Date, grace: Int) -> Entry {
    Entry(
      kid: key.id, algorithm: key.algorithm, created: now, state: .next,
      usableAt: now.addingTimeInterval(Double(grace)), jwk: key)
  }

  private static func check(grace: Int) throws(KeyRingProblem) {
    guard grace >= cachingTime else { throw .shortGrace(grace) }
  }

  /// Throws where a ring that was read is none that this type would have written.
  func validate() throws(KeyRingProblem) {
    var seen: Set<String> = []
    for key in keys {
      guard key.jwk.id == key.kid, key.jwk.algorithm == key.algorithm else { throw .otherKey(kid: key.kid) }
      guard seen.insert(key.kid).inserted else { throw .inconsistent("has \(key.kid) twice") }
      guard (key.usableAt != nil) == (key.state == .next), (key.retireAt != nil) == (key.state == .retired) else {
        throw .inconsistent("has \(key.kid) with a time that is not of its state")
      }
    }
    for algorithm in Set(keys.map(\.algorithm)) {
      for state in [State.current, .next] {
        let count = keys.filter { $0.algorithm == algorithm && $0.state == state }.count
        guard count == 1 else {
          throw .inconsistent("has \(count) keys that are \(state.rawValue) for \(algorithm.rawValue)")
        }
      }
    }
  }
}

/// Why a ring is not changed, or not believed.
public enum KeyRingProblem: Error, Equatable, CustomStringConvertible {
  case exists(SigningAlgorithm)
  case missing(SigningAlgorithm)
  case tooEarly(SigningAlgorithm, usableAt: Date)
  case shortGrace(Int)
  case otherKey(kid: String)
  case inconsistent(String)

  public var description: String {
    switch self {
    case .exists(let algorithm):
      "there is a key for \(algorithm.rawValue) already (fix: cordon issuer rotate --algorithm \(algorithm.rawValue))"
    case .missing(let algorithm):
      "there is no key for \(algorithm.rawValue) (fix: cordon issuer init --algorithm \(algorithm.rawValue))"
    case .tooEarly(let algorithm, let usableAt):
      "the next key for \(algorithm.rawValue) may sign from \(usableAt.formatted(.iso8601)) on, when every relying party knows it "
        + "(fix: wait; where the current one is in other hands, --compromised)"
    case .shortGrace(let grace):
      "a grace of \(grace) s is shorter than the \(KeyRing.cachingTime) s for which relying parties keep a key set"
    case .otherKey(let kid): "the key that is called \(kid) is another one (fix: restore keys.json)"
    case .inconsistent(let what): "keys.json \(what) (fix: restore it)"
    }
  }
}
