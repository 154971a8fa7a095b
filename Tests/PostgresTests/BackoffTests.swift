import Testing

@testable import Postgres

@Suite struct BackoffTests {
  /// SplitMix64: the same draws for the same seed.
  struct Seeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var mixed = state
      mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
      mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
      return mixed ^ (mixed >> 31)
    }
  }

  @Test func waitsLieBetweenHalfAndTheWholeOfADoublingBound() {
    var backoff = Backoff(base: .milliseconds(100), ceiling: .milliseconds(500))
    for bound in [100, 200, 400, 500, 500, 500] {
      let wait = backoff.next()
      #expect(wait >= .milliseconds(bound) / 2)
      #expect(wait <= .milliseconds(bound))
    }
  }

  @Test func resetStartsOver() {
    var backoff = Backoff(base: .milliseconds(100), ceiling: .seconds(60))
    for _ in 0..<10 { _ = backoff.next() }
    #expect(backoff.next() >= .seconds(30))
    backoff.reset()
    #expect(backoff.next() <= .milliseconds(100))
  }

  @Test func waitsAreSpreadOverTheirRange() {
    var generator = Seeded(state: 1)
    let waits = (0..<200).map { _ in
      var backoff = Backoff(base: .milliseconds(100))
      return backoff.next(using: &generator)
    }
    #expect(waits.contains { $0 < .milliseconds(60) })
    #expect(waits.contains { $0 > .milliseconds(90) })
    var again = Seeded(state: 1)
    var backoff = Backoff(base: .milliseconds(100))
    #expect(backoff.next(using: &again) == waits[0])
  }
}
