/// Waits between attempts that keep failing: each wait is drawn at random between half and the whole of a bound
/// that doubles up to a ceiling. The random part keeps a fleet that lost its database at one moment from coming
/// back at one moment; the lower half keeps an unlucky draw from hammering.
public struct Backoff: Sendable {
  /// Bound of the first wait.
  public let base: Duration
  /// Bound that is never exceeded.
  public let ceiling: Duration
  private var bound: Duration

  public init(base: Duration = .milliseconds(50), ceiling: Duration = .seconds(10)) {
    precondition(base > .zero && ceiling >= base, "a backoff starts above zero and below its ceiling")
    self.base = base
    self.ceiling = ceiling
    bound = base
  }

  /// How long to wait before the next attempt.
  public mutating func next(using generator: inout some RandomNumberGenerator) -> Duration {
    let wait = bound * Double.random(in: 0.5...1, using: &generator)
    bound = min(bound * 2, ceiling)
    return wait
  }

  public mutating func next() -> Duration {
    var generator = SystemRandomNumberGenerator()
    return next(using: &generator)
  }

  /// Starts over after a success.
  public mutating func reset() {
    bound = base
  }
}
