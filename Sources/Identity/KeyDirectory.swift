import FoundationEssentials
import Glibc
import JWTKit

// Theory of operation
//
// A directory of mode 0700 holds `keys.json`, the ring, and `KID.pem` for each key that may sign. Who changes it locks the directory;
// who reads it does not, so that a rotation that hangs keeps nobody from signing and verifying.
//
// The ring is the one file that decides. A new private half is on the disk before a ring that names it, an old one goes after a ring
// that does not; a rotation that is cut off in between leaves a file that no ring names, and the next rotation removes it. Files are
// written beside their place, synchronised, renamed, and the directory is synchronised: after a power cut there is the old one or the
// new one.

/// The issuer's keys on a disk.
public struct KeyDirectory: Sendable {
  public let path: String

  public init(path: String) {
    self.path = path
  }

  private static let ringName = "keys.json"
  private static let mostRingBytes = 1 << 20

  /// The keys that verify, and their states.
  public func ring() throws -> KeyRing {
    try readRing(GuardedDirectory(path))
  }

  /// The current key of an algorithm, ready to sign.
  func signingKey(_ algorithm: SigningAlgorithm) throws -> PrivateKey {
    let directory = try GuardedDirectory(path)
    func current() throws -> KeyRing.Entry {
      guard let entry = try readRing(directory).current(algorithm) else { throw KeyRingProblem.missing(algorithm) }
      return entry
    }
    var entry = try current()
    while true {
      do { return try readKey(entry, directory) } catch {
        // A rotation between the two files has erased it; then the ring names another one by now.
        let now = try current()
        guard now.kid != entry.kid else { throw error }
        entry = now
      }
    }
  }

  /// Makes the directory where there is none, and keys for the algorithms.
  public func initialise(_ algorithms: [SigningAlgorithm], at now: Date, grace: Int) throws {
    if mkdir(path, 0o700) != 0, errno != EEXIST { throw FileProblem(path, errno: errno) }
    var fresh: [(current: PrivateKey, next: PrivateKey)] = []
    for algorithm in algorithms { fresh.append((try .generate(algorithm), try .generate(algorithm))) }
    try withLock { directory in
      var ring = try exists(Self.ringName, directory) ? readRing(directory) : KeyRing()
      for pair in fresh {
        let actions = try ring.begin(
          current: pair.current.publicKey, next: pair.next.publicKey, at: now, grace: grace)
        try perform(actions, ring, [pair.current, pair.next], directory)
      }
    }
  }

  /// See `KeyRing.rotate`.
  public func rotate(_ algorithm: SigningAlgorithm, at now: Date, grace: Int, compromised: Bool = false) throws {
    // Before the lock: primes take their time.
    let fresh = try PrivateKey.generate(algorithm)
    try withLock { directory in
      var ring = try readRing(directory)
      let actions = try ring.rotate(fresh: fresh.publicKey, at: now, grace: grace, compromised: compromised)
      try perform(actions, ring, [fresh], directory)
    }
  }

  private func perform(
    _ actions: [KeyRing.Action], _ ring: KeyRing, _ fresh: [PrivateKey], _ directory: GuardedDirectory
  ) throws {
    for action in actions {
      switch action {
      case .store(let kid):
        guard let key = fresh.first(where: { $0.publicKey.id == kid }) else {
          preconditionFailure("a ring stores what it was given")
        }
        try directory.write(Array(key.pem.utf8), to: kid + ".pem")
      case .commit:
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.dateEncodingStrategy = .iso8601
        try directory.write(Array(try encoder.encode(ring)) + [10], to: Self.ringName)
      case .sweep:
        let kept = Set(ring.signing.map { $0.kid + ".pem" })
        for name in try directory.names()
        where !kept.contains(name) && (name.hasSuffix(".pem") || name.hasSuffix(".new")) {
          try directory.remove(name)
        }
      }
    }
  }

  private func exists(_ name: String, _ directory: GuardedDirectory) throws -> Bool {
    try directory.names().contains(name)
  }

  private func readRing(_ directory: GuardedDirectory) throws -> KeyRing {
    guard try exists(Self.ringName, directory) else {
      throw FileProblem("\(path): there are no keys", fix: "cordon issuer init")
    }
    let bytes = try directory.read(Self.ringName, most: Self.mostRingBytes)
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    let ring: KeyRing
    do { ring = try decoder.decode(KeyRing.self, from: Data(bytes)) } catch {
      throw KeyRingProblem.inconsistent("cannot be read: \(error)")
    }
    try ring.validate()
    return ring
  }

  private func readKey(_ entry: KeyRing.Entry, _ directory: GuardedDirectory) throws -> PrivateKey {
    let pem = String(decoding: try directory.read(entry.kid + ".pem", most: Self.mostRingBytes), as: UTF8.self)
    guard let key = try? PrivateKey(entry.algorithm, pem: pem), key.publicKey.id == entry.kid else {
      throw KeyRingProblem.otherKey(kid: entry.kid)
    }
    return key
  }

  private func withLock(_ body: (GuardedDirectory) throws -> Void) throws {
    let directory = try GuardedDirectory(path)
    try directory.lock()
    try body(directory)
  }
}
