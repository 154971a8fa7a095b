import Foundation
import Testing

@testable import Identity

/// Rotation as a value: no files, no waiting.
@Suite struct KeyRingTests {
  private let grace = 3_600

  private func key() throws -> PublicKey { try PrivateKey.generate(.es256).publicKey }

  private func begun() throws -> (ring: KeyRing, current: PublicKey, next: PublicKey) {
    var ring = KeyRing()
    let (current, next) = (try key(), try key())
    let actions = try ring.begin(current: current, next: next, at: .noon, grace: grace)
    #expect(actions == [.store(kid: current.id), .store(kid: next.id), .commit])
    return (ring, current, next)
  }

  private func states(_ ring: KeyRing, at now: Date) -> [String: KeyRing.State] {
    Dictionary(uniqueKeysWithValues: ring.published(at: now).map { ($0.kid, $0.state) })
  }

  @Test("the next key is published before it signs, the retired one until its last token is over")
  func wholeLife() throws {
    var (ring, first, second) = try begun()
    #expect(states(ring, at: .noon) == [first.id: .current, second.id: .next])
    let turn = Date.noon + Double(grace)
    let third = try key()
    let actions = try ring.rotate(fresh: third, at: turn, grace: grace, compromised: false)
    // The new private half before the ring, the old one after it.
    #expect(actions == [.store(kid: third.id), .commit, .sweep])
    #expect(ring.current(.es256)?.kid == second.id)
    #expect(ring.signing.map(\.kid).sorted() == [second.id, third.id].sorted())
    // Whoever still held the old ring signed its last token readAgainAfter later, and that one lives for TokenLifetime.longest.
    let last = turn + Double(KeyRing.readAgainAfter + TokenLifetime.longest)
    #expect(states(ring, at: last - 1) == [first.id: .retired, second.id: .current, third.id: .next])
    #expect(states(ring, at: last) == [second.id: .current, third.id: .next])
    // And the rotation after that forgets it.
    _ = try ring.rotate(fresh: try key(), at: turn + Double(grace), grace: grace, compromised: false)
    #expect(!ring.keys.contains { $0.kid == first.id })
    #expect(throws: Never.self) { try ring.validate() }
  }

  @Test func aRotationWithinTheGraceIsRefusedAndChangesNothing() throws {
    var (ring, _, _) = try begun()
    let before = ring
    let fresh = try key()
    #expect(throws: KeyRingProblem.tooEarly(.es256, usableAt: .noon + Double(grace))) {
      try ring.rotate(fresh: fresh, at: .noon + Double(grace) - 1, grace: grace, compromised: false)
    }
    #expect(ring == before)
  }

  @Test("a compromised key is published no more, and the next one signs at once")
  func compromised() throws {
    var (ring, first, second) = try begun()
    let fresh = try key()
    _ = try ring.rotate(fresh: fresh, at: .noon + 1, grace: grace, compromised: true)
    #expect(states(ring, at: .noon + 1) == [second.id: .current, fresh.id: .next])
    #expect(!ring.keys.contains { $0.kid == first.id })
  }

  @Test func anAlgorithmBeginsOnceAndRotatesOnlyThen() throws {
    var (ring, _, _) = try begun()
    let (one, two) = (try key(), try key())
    #expect(throws: KeyRingProblem.exists(.es256)) {
      try ring.begin(current: one, next: two, at: .noon, grace: grace)
    }
    let rsa = try PrivateKey.generate(.rs256).publicKey
    #expect(throws: KeyRingProblem.missing(.rs256)) {
      try ring.rotate(fresh: rsa, at: .distantFuture, grace: grace, compromised: false)
    }
    #expect(ring.algorithms == [.es256])
  }

  @Test func aGraceShorterThanTheCachingTimeIsRefused() throws {
    var ring = KeyRing()
    let (one, two) = (try key(), try key())
    #expect(throws: KeyRingProblem.shortGrace(KeyRing.cachingTime - 1)) {
      try ring.begin(current: one, next: two, at: .noon, grace: KeyRing.cachingTime - 1)
    }
    #expect(ring.keys.isEmpty)
  }

  @Test(
    "a ring that was tampered with is not believed",
    arguments: [
      (#""state":"next""#, #""state":"current""#), (#""state":"current""#, #""state":"retired""#),
      (#""algorithm":"ES256""#, #""algorithm":"RS256""#), (#""kid":""#, #""kid":"../"#),
    ])
  func tampered(before: String, after: String) throws {
    let encoder = JSONEncoder()
    let text = String(decoding: try encoder.encode(try begun().ring), as: UTF8.self)
    let changed = text.replacingOccurrences(of: before, with: after)
    #expect(changed != text)
    let ring = try JSONDecoder().decode(KeyRing.self, from: Data(changed.utf8))
    #expect(throws: KeyRingProblem.self) { try ring.validate() }
  }
}
